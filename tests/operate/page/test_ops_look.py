"""How the operations page looks: at three sizes and in both themes every text can be read and nothing is cut off.

``OPS_SCREENSHOTS=<folder>`` keeps the pictures, for looking at them.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.call_traffic import CallTraffic
from tests.support.ops_page import SCHEMES, SIZES, contrasts, ops_page, shows
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import WEBHOOK
from tests.support.service_api import ADMIN_TOKEN, connected
from tests.support.vapi_sender import status_update

ENOUGH_CONTRAST = 4.5
"""WCAG 2.2, criterion 1.4.3, for text of this size."""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_every_text_can_be_read_and_none_is_cut_off(
    browser: Browser, replica: Replica, own_redis: RedisProcess, size: str, scheme: str, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("OPS_SCREENSHOTS", tmp_path))
    width, height = SIZES[size]
    look = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "reduced_motion": "reduce"}
    async with connected(replica) as client, ops_page(browser, replica.url, **look) as tab:
        await expect(tab.page.get_by_label("Admin token")).to_be_focused()
        assert await contrasts(tab.page, below=ENOUGH_CONTRAST, within="dialog") == []
        await tab.page.screenshot(path=folder / f"{size}-{scheme}-token.png")
        await tab.sign_in(ADMIN_TOKEN)
        traffic = asyncio.ensure_future(CallTraffic([client], pace=0.2).send(30, every_s=0.15))
        await asyncio.sleep(4)
        await client.post(WEBHOOK, json=status_update("queued"))
        await shows(tab, "problems", "Webhooks lack a valid proof")
        await judged(tab.page, folder / f"{size}-{scheme}.png")
        await traffic
        own_redis.stop()
        await shows(tab, "problems", "Redis takes no webhooks")
        await judged(tab.page, folder / f"{size}-{scheme}-redis-away.png")


async def judged(page: Page, picture: Path) -> None:
    assert await contrasts(page, below=ENOUGH_CONTRAST, within="body") == []
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert await page.evaluate("document.getAnimations().length") == 0
    await page.screenshot(path=picture, full_page=True)
