"""The operations page in a real browser: what it shows of a running service, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, expect

from tests.support.call_traffic import CallTraffic
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.ops_page import SIZES, OpsPage, ops_page, pair, shows
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import ADMIN_TOKEN, PROOF, READ_TOKEN, READER, connected, deliver
from tests.support.vapi_sender import full_report, sample_bytes, sample_names, status_update

expect.set_options(timeout=PATIENCE_S * 1000)

PHONE = "8645550123"


async def test_the_page_shows_the_numbers_of_a_running_service_as_they_change(
    browser: Browser, replica: Replica
) -> None:
    async with connected(replica, **PROOF) as vapi, ops_page(browser, replica.url) as tab:
        for name in sample_names():
            assert (await vapi.post(WEBHOOK, content=sample_bytes(name))).status_code == 200
        await tab.sign_in(ADMIN_TOKEN)
        await shows(tab, "lives", "01a0b1c2…89ab")

        async def counts_the_samples() -> bool:
            return await pair(tab, "webhooks-counts", "taken") == str(len(sample_names()))

        await eventually(counts_the_samples)
        poll = asyncio.ensure_future(vapi.get(CALLS + "live-call", params={"wait": "25"}, headers=READER))
        await deliver(vapi, status_update("in-progress", "live-call"))
        await shows(tab, "lives", "in progress")

        async def shows_the_parked_poll() -> bool:
            return await pair(tab, "polls-counts", "parked now") == "1"

        await eventually(shows_the_parked_poll)
        await deliver(vapi, full_report("live-call", endedReason="customer-busy"))
        assert (await poll).status_code == 200
        row = tab.page.locator("#lives tr", has_text="live-call")
        await expect(row).to_contain_text("busy")
        await expect(row).to_contain_text("+1864***0123")
        await expect(row).to_contain_text("later")
        await expect(tab.page.locator("#wake-p50")).to_contain_text("≤")
        await shows(tab, "replicas", "replica-a")
        assert PHONE not in await tab.page.content()


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("wrong", "does not know this token"),
        (READ_TOKEN, "needs an admin token"),
        ("größer", "does not know this token"),
    ],
    ids=["wrong", "read", "not-ascii"],
)
async def test_a_token_that_does_not_do_is_refused_in_words(
    browser: Browser, replica: Replica, token: str, sentence: str
) -> None:
    async with ops_page(browser, replica.url) as tab:
        await tab.sign_in(token)
        await shows(tab, "sign-in-error", sentence)
        await expect(tab.page.get_by_label("Admin token")).to_be_focused()
        assert await tab.text("webhooks-rate") == "–"
        await tab.sign_in(ADMIN_TOKEN)
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")


async def test_the_token_stays_in_memory_and_nothing_leaves_the_service(browser: Browser, replica: Replica) -> None:
    async with ops_page(browser, replica.url) as tab:
        await tab.sign_in(ADMIN_TOKEN)
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        kept = await tab.page.evaluate(
            "[location.href, document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage),"
            " document.documentElement.outerHTML, ...[...document.querySelectorAll('input')].map((one) => one.value)]"
        )
        assert not any(ADMIN_TOKEN in text for text in kept)
        assert not any(ADMIN_TOKEN in request.url for request in tab.requests)
        assert {request.url.split("/ops")[0].split("/api")[0] for request in tab.requests} <= {
            replica.url,
            f"{replica.url}/health",
        }
        await tab.page.get_by_role("button", name="Forget token").click()
        await expect(tab.page.get_by_label("Admin token")).to_be_focused()
        assert await tab.text("lives") == ""


async def test_a_redis_that_is_away_is_named_with_what_to_do_and_its_return_is_seen(
    browser: Browser, replica: Replica, own_redis: RedisProcess
) -> None:
    async with connected(replica, **PROOF) as vapi, ops_page(browser, replica.url) as tab:
        await deliver(vapi, full_report())
        await tab.sign_in(ADMIN_TOKEN)
        await shows(tab, "lives", "call-1")
        own_redis.stop()
        await shows(tab, "problems", "Redis takes no webhooks")
        await shows(tab, "problems", "Webhooks are refused with 503")
        await shows(tab, "verdict", "wrong")
        await shows(tab, "redis-latency", "away")
        await shows(tab, "lives", "call-1")
        link = tab.page.get_by_role("link", name="What to do: Redis takes no webhooks")
        async with tab.page.context.expect_page() as opened:
            await link.click()
        runbook = await opened.value
        await runbook.wait_for_load_state()
        assert runbook.url.endswith("/ops/runbook#vapiredisaway")
        await expect(runbook.locator(":target")).to_be_in_viewport()
        own_redis.start()
        await expect(tab.page.locator("#problems")).not_to_contain_text("Redis takes no webhooks")


async def test_a_service_that_is_away_is_named_and_asked_ever_less_often(browser: Browser, replica: Replica) -> None:
    async with ops_page(browser, replica.url) as tab:
        await tab.sign_in(ADMIN_TOKEN)
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        replica.stop()
        await shows(tab, "problems", "The service does not answer")
        await shows(tab, "freshness", "Next try in")
        count = len(tab.requests)
        await asyncio.sleep(7)
        assert len(tab.requests) - count <= 6, "two requests a try; every two seconds it would be eight"
        replica.start()
        await tab.page.get_by_role("button", name="Read now").click()
        await expect(tab.page.locator("#problems")).not_to_contain_text("does not answer")


async def test_refused_proofs_and_missing_reports_are_named(
    browser: Browser, own_redis: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=own_redis.url, report_grace_s=1, vapi_webhook_secret="s", api_admin_tokens="a")
    async with connected(replica) as vapi, ops_page(browser, replica.url) as tab:
        await tab.sign_in("a")
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        await deliver(vapi, status_update("ended", "late"), **{"X-Vapi-Secret": "s"})
        assert (await vapi.post(WEBHOOK, json=status_update("queued"))).status_code == 401
        await shows(tab, "problems", "Webhooks lack a valid proof")
        await shows(tab, "problems", "Reports did not come")


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_moves_and_nothing_is_blocked_while_calls_come_and_problems_appear(
    browser: Browser, replica: Replica, size: str
) -> None:
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    async with connected(replica) as client, ops_page(browser, replica.url, viewport=viewport) as tab:
        await tab.sign_in(ADMIN_TOKEN)
        await CallTraffic([client], pace=0.1).send(40, every_s=0.2)
        hostile = "<img src=/x onerror=alert(1)> pipeline-error-401-<script>alert(1)</script>"
        await deliver(client, full_report("hostile", endedReason=hostile), **PROOF)
        await shows(tab, "problems", "<script>alert(1)</script>")
        assert (await client.post(WEBHOOK, json=status_update("queued"))).status_code == 401
        await shows(tab, "problems", "Webhooks lack a valid proof")
        assert sum(shift["value"] for shift in await tab.shifts()) < 0.001, await tab.shifts()
        assert await tab.violations() == []
        assert tab.console == []


async def test_a_hidden_tab_reads_seldom_and_a_paused_one_not_at_all(browser: Browser, replica: Replica) -> None:
    async with ops_page(browser, replica.url) as tab:
        await tab.sign_in(ADMIN_TOKEN)
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        await tab.page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        await asyncio.sleep(0.5)
        count = len(tab.requests)
        await asyncio.sleep(5)
        assert len(tab.requests) == count
        await tab.page.get_by_role("button", name="Pause").click()
        await expect(tab.page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        await shows(tab, "freshness", "Paused")


async def test_without_credentials_the_page_asks_for_no_token(
    browser: Browser, start_replica: Callable[..., Replica]
) -> None:
    async with ops_page(browser, start_replica().url) as tab:
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        await expect(tab.page.locator("#sign-in")).not_to_be_visible()
        await shows(tab, "lives", "No calls yet")
        assert tab.console == []


async def test_the_page_is_used_by_keyboard_in_the_order_of_what_is_seen(browser: Browser, replica: Replica) -> None:
    async with ops_page(browser, replica.url) as tab:
        keyboard = tab.page.keyboard
        await expect(tab.page.get_by_label("Admin token")).to_be_focused()
        await keyboard.type(ADMIN_TOKEN)
        await keyboard.press("Tab")
        assert await focused(tab) == "sign-in-button"
        await keyboard.press("Enter")
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        order = [await focused(tab)]
        for _ in range(4):
            await keyboard.press("Tab")
            order.append(await focused(tab))
        assert order == ["pause", "again", "forget", "problems", "Runbook"]
        for _ in range(5):
            await keyboard.press("Shift+Tab")
        assert await focused(tab) == "Skip to the newest calls"
        await keyboard.press("Enter")
        assert await focused(tab) == "calls"


async def focused(tab: OpsPage) -> str:
    name: str = await tab.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
    return name
