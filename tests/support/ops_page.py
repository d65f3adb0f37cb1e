"""The operations page in Debian's Chromium, headless, and what it complains of."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

SIZES: Final = {"wide": (1440, 1000), "tablet": (834, 1112), "phone": (390, 844)}
SCHEMES: Final = ("light", "dark")

WATCH_SHIFTS: Final = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) {
    const moved = shift.sources.map((source) => source.node?.id || source.node?.className || source.node?.nodeName);
    window.shifts.push({value: shift.value, moved});
  }
}).observe({type: "layout-shift", buffered: true});
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(
  `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


CONTRASTS: Final = """
([within, below]) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const luminance = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const backgroundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 0.99) return color;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(within), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const [one, other] = [luminance(rgba(getComputedStyle(element).color)), luminance(backgroundOf(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < below) found.push(`${walker.currentNode.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return [...new Set(found)];
}
"""


async def contrasts(page: Page, *, below: float, within: str) -> list[str]:
    """The texts whose contrast with what is behind them is lower."""
    found: list[str] = await page.evaluate(CONTRASTS, [within, below])
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """As root, as in a container, Chromium needs --no-sandbox; it opens nothing here but our own page."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: tests/support/get_tools.sh gets it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


class OpsPage:
    """One tab with the page, and what was logged and requested meanwhile."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self.console: list[str] = []
        self.requests: list[Request] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        page.on("request", self._note_request)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)

    async def open(self) -> None:
        await self.page.add_init_script(WATCH_SHIFTS)
        await self.page.goto(f"{self._url}/ops")

    async def sign_in(self, token: str) -> None:
        await self.page.get_by_label("Admin token").fill(token)
        await self.page.keyboard.press("Enter")

    async def text(self, element: str) -> str:
        return (await self.page.locator(f"#{element}").inner_text()).strip()

    async def shifts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.page.evaluate("window.shifts")
        return found

    async def violations(self) -> list[str]:
        found: list[str] = await self.page.evaluate("window.violations")
        return found


@asynccontextmanager
async def ops_page(browser: Browser, url: str, **options: Any) -> AsyncIterator[OpsPage]:
    """``options`` are those of a browser context: viewport, color_scheme, reduced_motion."""
    context = await browser.new_context(**options)
    tab = OpsPage(await context.new_page(), url)
    await tab.open()
    yield tab
    await context.close()


async def shows(tab: OpsPage, element: str, text: str) -> None:
    await expect(tab.page.locator(f"#{element}")).to_contain_text(text)


async def pair(tab: OpsPage, panel: str, name: str) -> str:
    """The value beside a name."""
    value = tab.page.locator(f"#{panel} div", has=tab.page.locator(f"dt:text-is('{name}')")).locator("dd")
    return await value.inner_text()
