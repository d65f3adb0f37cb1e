"""Without any credentials: this machine's own programs are served, proxies' clients and web pages are not."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from tests.api.talk import CALLS, STATS, WEBHOOK, connected
from tests.support.replica import Replica
from tests.support.vapi_sender import status_update

FOREIGN = [
    {"Forwarded": "for=198.51.100.7"},
    {"X-Forwarded-For": "198.51.100.7"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Host": "calls.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
]
PATHS = ["/", STATS, "/metrics", CALLS + "x", "/nowhere"]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
@pytest.mark.parametrize("path", PATHS)
async def test_who_is_not_of_this_machine_is_403_and_told_what_to_set(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["success"]) == (403, False)
    assert "VAPI_WEBHOOK_SECRET" in answer.json()["error"]
    assert "evil" not in answer.text


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
async def test_a_strangers_webhook_is_403(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post(WEBHOOK, json=status_update("queued", "strangers"), headers=headers)
    assert answer.status_code == 403
    assert (await client.get(CALLS + "strangers")).status_code == 404


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_health_is_open_to_all(client: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> None:
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_page_of_its_own_is_served(client: httpx2.AsyncClient, open_replica: Replica, host: str) -> None:
    answer = await client.get(STATS, headers={"Origin": f"http://{host}:{open_replica.port}"})
    assert answer.status_code == 200


async def test_credentials_lift_the_guard(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get("/", headers={"Origin": "https://ops.example"})).status_code == 200


async def test_allowing_everybody_lifts_the_guard(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(allow_unauthenticated="1")) as client:
        for headers in FOREIGN:
            assert (await client.get(STATS, headers=headers)).status_code == 200
