"""Takes the picture of the operations page that the READMEs show: python -m tests.operate.page.picture FILE.webp [SECONDS]"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

from tests.support.archives import make_tables
from tests.support.call_traffic import CallTraffic
from tests.support.ops_page import OpsPage, chromium, ops_page
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import ADMIN_TOKEN, CREDENTIALS, connected

SIZE = {"width": 1440, "height": 1282}
QUALITY = 82


async def take(seconds: float) -> bytes:
    server, postgres = RedisProcess().start(), PostgresProcess().start()
    database_url = postgres.url_of(postgres.create_database())
    await make_tables(database_url)
    settings = {"redis_url": server.url, "database_url": database_url, **CREDENTIALS}
    replicas = [
        Replica(service_replica_id=name, spool_dir=tempfile.mkdtemp(), **settings).start()
        for name in ("replica-a", "replica-b")
    ]
    try:
        return await look_at(replicas, seconds)
    finally:
        for replica in replicas:
            replica.stop()
        postgres.remove()
        server.stop()


async def look_at(replicas: list[Replica], seconds: float) -> bytes:
    one, other = replicas
    async with (
        connected(one) as first, connected(other) as second, chromium() as browser,
        ops_page(browser, one.url, viewport=SIZE, color_scheme="light") as tab,
    ):  # fmt: skip
        await tab.sign_in(ADMIN_TOKEN)
        calls = asyncio.ensure_future(CallTraffic([first, second]).send(100_000, every_s=0.9))
        await asyncio.sleep(seconds)
        await tab.page.evaluate("document.activeElement.blur()")
        picture = await as_webp(tab)
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)
        return picture


async def as_webp(tab: OpsPage) -> bytes:
    chrome = await tab.page.context.new_cdp_session(tab.page)
    shot = await chrome.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(asyncio.run(take(float(sys.argv[2]) if len(sys.argv) > 2 else 200.0)))
