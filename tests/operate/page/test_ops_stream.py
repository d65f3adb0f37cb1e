"""The operations page and the stream of events: what it brings, and what the page does without it."""

from __future__ import annotations

from playwright.async_api import Browser, Route, expect

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.ops_page import OpsPage, ops_page
from tests.support.replica import Replica
from tests.support.routes import CALLS, EVENTS, STATS
from tests.support.service_api import ADMIN, ADMIN_TOKEN, PROOF, connected, deliver
from tests.support.vapi_sender import full_report, status_update

expect.set_options(timeout=PATIENCE_S * 1000)


def asked(tab: OpsPage, path: str) -> int:
    return sum(path in request.url for request in tab.requests)


async def test_changes_and_stats_come_by_the_stream_and_are_not_asked_for(browser: Browser, replica: Replica) -> None:
    async with connected(replica, **PROOF, **ADMIN) as client, ops_page(browser, replica.url) as tab:
        await tab.sign_in(ADMIN_TOKEN)
        await eventually(lambda: asked(tab, EVENTS) == 1)
        row = tab.page.locator("#lives tr", has_text="streamed")
        taken = tab.page.locator("#webhooks-counts div", has=tab.page.locator("dt:text-is('taken')")).locator("dd")
        await deliver(client, status_update("in-progress", "streamed"))
        await expect(row).to_contain_text("in progress")
        await expect(taken).to_have_text("1")
        before, healths = asked(tab, STATS), asked(tab, "/health")
        await deliver(client, full_report("streamed", endedReason="customer-busy"))
        await expect(row).to_contain_text("busy")
        await expect(taken).to_have_text("2")
        await expect(row).to_contain_text("later")
        await eventually(lambda: asked(tab, "/health") > healths + 4)
        assert asked(tab, STATS) < before + 3, "seldom: only while an event is late"
        await client.delete(CALLS + "streamed")
        await expect(row).to_have_count(0)
        assert asked(tab, EVENTS) == 1
        assert tab.console == []


async def test_without_the_stream_the_page_asks_for_the_stats(browser: Browser, replica: Replica) -> None:
    async def refuse(route: Route) -> None:
        await route.abort()

    async with connected(replica, **PROOF) as client, ops_page(browser, replica.url) as tab:
        await tab.page.route(f"**{EVENTS}", refuse)
        await tab.sign_in(ADMIN_TOKEN)
        await expect(tab.page.locator("#verdict")).to_have_text("All is well")
        await deliver(client, status_update("in-progress", "polled"))
        await expect(tab.page.locator("#lives tr", has_text="polled")).to_contain_text("in progress")
        assert asked(tab, EVENTS) > 1, "the stream is tried again and again"
        await tab.page.unroute(f"**{EVENTS}")
        await eventually(lambda: asked(tab, STATS) > 2)
        healths, stats = asked(tab, "/health"), asked(tab, STATS)
        await eventually(lambda: asked(tab, "/health") > healths + 6)
        assert asked(tab, STATS) < stats + 6, "the stream brings them again"


async def test_a_paused_page_has_no_stream_and_gets_one_again(browser: Browser, replica: Replica) -> None:
    async with connected(replica, **ADMIN) as client, ops_page(browser, replica.url) as tab:

        async def streams(count: int) -> bool:
            return f"\nvapi_streams_open {count}.0" in (await client.get("/metrics")).text

        await tab.sign_in(ADMIN_TOKEN)
        await eventually(lambda: streams(1))
        await tab.page.get_by_role("button", name="Pause").click()
        await eventually(lambda: streams(0))
        await tab.page.get_by_role("button", name="Pause").click()
        await eventually(lambda: streams(1))
        await tab.page.get_by_role("button", name="Forget token").click()
        await eventually(lambda: streams(0))
