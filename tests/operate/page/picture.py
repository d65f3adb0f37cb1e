"""Takes the picture of the operations page that the READMEs show: python -m tests.operate.page.picture FILE.webp [SECONDS]"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

from tests.support.call_traffic import CallTraffic
from tests.support.ops_page import OpsPage, chromium, ops_page
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import ADMIN_TOKEN, CREDENTIALS, connected

SIZE = {"width": 1440, "height": 1282}
QUALITY = 82


async def take(file: Path, seconds: float) -> None:
    server = RedisProcess().start()
    replicas = [
        Replica(redis_url=server.url, service_replica_id=name, spool_dir=tempfile.mkdtemp(), **CREDENTIALS).start()
        for name in ("replica-a", "replica-b")
    ]
    try:
        async with connected(replicas[0]) as one, connected(replicas[1]) as other, chromium() as browser:
            async with ops_page(browser, replicas[0].url, viewport=SIZE, color_scheme="light") as tab:
                await tab.sign_in(ADMIN_TOKEN)
                calls = asyncio.ensure_future(CallTraffic([one, other]).send(100_000, every_s=0.9))
                await asyncio.sleep(seconds)
                await tab.page.evaluate("document.activeElement.blur()")
                file.write_bytes(await as_webp(tab))
                calls.cancel()
                await asyncio.gather(calls, return_exceptions=True)
    finally:
        for replica in replicas:
            replica.stop()
        server.stop()


async def as_webp(tab: OpsPage) -> bytes:
    chrome = await tab.page.context.new_cdp_session(tab.page)
    shot = await chrome.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 200.0))
