"""What the panels of the operations page show of parts that may be off: the page's own functions, in the browser."""

from __future__ import annotations

from playwright.async_api import Browser

from tests.support.ops_page import OpsPage, ops_page, pair
from tests.support.replica import Replica


async def test_the_panels_show_the_archive_and_the_callbacks_and_say_where_they_are_off(
    browser: Browser, replica: Replica
) -> None:
    callbacks = {"waiting_calls": 9, "due": 4, "delivered": 7, "dropped": 3, "retried": 0}
    archive = {"problem": None, "backlog": 2, "backlog_age_s": 0, "written": 12, "set_aside": 1, "given_up": 0}
    async with ops_page(browser, replica.url) as tab:
        await draw(tab, {"callbacks": callbacks, "archive": archive})
        assert await pair(tab, "subscriptions", "callbacks due") == "4"
        assert await pair(tab, "subscriptions", "delivered") == "7"
        assert await pair(tab, "subscriptions", "not delivered") == "3"
        assert await pair(tab, "subscriptions", "executions due") == "off"
        assert await pair(tab, "archive", "rows written") == "12"
        assert await pair(tab, "archive", "changes wait") == "2"
        assert await pair(tab, "archive", "refused") == "1"
        await draw(tab, {})
        assert await pair(tab, "subscriptions", "callbacks due") == "off"
        assert await pair(tab, "archive", "rows written") == "off"


async def draw(tab: OpsPage, parts: dict[str, object]) -> None:
    """The two panels with what a service's stats would say."""
    stats = {"placed": {}, "store": {"latency_ms": 1.0, "spool": None}, "replicas": [], **parts}
    await tab.page.evaluate(
        """async (stats) => {
          const view = await import("/ops/ops_view.js");
          view.showStore(null, stats);
          view.showPlaced(stats);
        }""",
        stats,
    )
