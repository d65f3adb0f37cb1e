"""The API's page and document: open to everybody, nothing from elsewhere, and no way to fill the log or the memory."""

from __future__ import annotations

import asyncio
import re

import httpx2
import pytest

from service.api.docs import FILES
from tests.support.raw_http import ask, get
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import connected, new_address, new_call_id

OPEN = ["/openapi.json", "/docs", *(f"/docs/{name}" for name in FILES)]


@pytest.mark.parametrize("path", OPEN)
async def test_everybody_may_look(stranger: httpx2.AsyncClient, path: str) -> None:
    for target in (path, path + "/"):
        answer = await stranger.get(target)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert answer.headers["x-request-id"]
    assert (await stranger.head(path)).headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("path", OPEN)
async def test_without_credentials_only_this_machine_may(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"X-Forwarded-For": "198.51.100.7"}):
        assert (await client.get(path, headers=headers)).status_code == 403


async def test_the_page_names_nothing_from_elsewhere_and_is_not_allowed_to(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert [name for name in named if not re.fullmatch(r"/docs/[\w.-]+|/openapi\.json", name)] == []
    for name in named:
        assert (await client.get(name)).status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {word for sources in policy.values() for word in sources.split()} <= {"'none'", "'self'", "data:"}
    assert [name for name, sources in policy.items() if "data:" in sources] == ["img-src"]
    assert policy["frame-ancestors"] == "'none'"
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["__init__.py", "..", "../__init__.py", "%2e%2e", "..%2f__init__.py", "VERSION", "x"])
async def test_no_other_file_is_served(open_replica: Replica, name: str) -> None:
    answer = await ask(open_replica.port, get(b"/docs/" + name.encode()))
    assert answer.status in (400, 404)


async def test_pages_that_strangers_ask_for_are_logged_once_a_minute(closed_replica: Replica) -> None:
    address, request_id = new_address(), new_call_id()
    async with connected(closed_replica, **{"X-Forwarded-For": address, "X-Request-ID": request_id}) as client:
        for path in OPEN * 3:
            assert (await client.get(path)).status_code == 200
    assert closed_replica.log.count(f'"request_id":"{request_id}"') <= 1


async def test_literal_parts_of_a_path_win_over_parameters(client: httpx2.AsyncClient) -> None:
    """Where both have the method, or neither; tests/api/test_batch_standing.py has a call named batch."""
    for method in ("PUT", "OPTIONS"):
        answer = await client.request(method, CALLS + "batch")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST"), method
    answer = await client.request("PUT", CALLS + "batch/subscriptions")
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_many_who_ask_at_once_get_the_same(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(20)))
    assert len({answer.content for answer in answers}) == 1
