"""The page at /docs in a real browser: it loads under its own policy, and requests can be tried with a token."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.support.eventually import PATIENCE_S
from tests.support.replica import Replica
from tests.support.service_api import CREDENTIALS, PROOF, READ_TOKEN, connected, deliver
from tests.support.vapi_sender import full_report

CALL_ID = "0199a4f2-7c1e-7aa0-b5a4-3f5e1c2d9b10"
"""The example that the page fills in."""


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(PATIENCE_S * 1000)
        yield page
        await browser.close()


async def test_a_request_is_tried_with_a_token_and_nothing_leaves_the_machine(
    page: Page, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(**CREDENTIALS)
    async with connected(replica, **PROOF) as client:
        await deliver(client, full_report(CALL_ID))
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    await page.goto(replica.url + "/docs")
    await page.locator(".opblock").first.wait_for()
    await page.locator(".auth-wrapper button.authorize").click()
    token = page.locator(".auth-container").filter(has_text="readToken")
    await token.locator("input").fill(READ_TOKEN)
    await token.locator("button.authorize").click()
    await page.locator("button.btn-done").first.click()
    operation = page.locator("#operations-calls-getCall")
    await operation.locator(".opblock-summary-control").click()
    await operation.locator("button.try-out__btn").click()
    await operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table")
    await expect(answer.locator("tbody .response-col_status").first).to_contain_text("200", timeout=PATIENCE_S * 1000)
    await expect(answer).to_contain_text('"data_status": "complete"')

    assert complaints == []
    assert asked[-1] == f"{replica.url}/api/v1/vapi/calls/{CALL_ID}"
    assert [url for url in asked if not url.startswith((replica.url, "data:"))] == []
    assert READ_TOKEN not in "".join(asked)
    kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert READ_TOKEN not in kept
