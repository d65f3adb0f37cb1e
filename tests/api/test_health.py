"""Live, ready and healthy: with a store, without one, and how much strangers are told. And the list at ``/``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

import httpx2
import pytest

from service import __version__
from tests.support.eventually import eventually
from tests.support.redis_server import free_port
from tests.support.replica import Replica
from tests.support.routes import BOTH_WEBHOOKS, BY_PHONE, CALLS, STATS, WEBHOOK
from tests.support.service_api import ADMIN, CREDENTIALS, PROOF, READER, connected
from tests.support.vapi_sender import full_report, message


@pytest.fixture(scope="module")
def cut_off_replica() -> Iterator[Replica]:
    """A closed replica whose Redis is not there."""
    url = f"redis://:a-password@127.0.0.1:{free_port()}/0"
    replica = Replica(redis_url=url, store_timeout_s=0.3, **CREDENTIALS).start()
    yield replica
    replica.stop()


@pytest.fixture
async def cut_off(cut_off_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(cut_off_replica) as client:
        yield client


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_all_is_well_with_a_store(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["success"], answer.json()["status"]) == (200, True, "ok")


async def test_every_dependency_is_named(client: httpx2.AsyncClient) -> None:
    async def are_both_ok() -> bool:
        dependencies = (await client.get("/health")).json()["dependencies"]
        return {name: state["status"] for name, state in dependencies.items()} == {"redis": "ok", "notifications": "ok"}

    await eventually(are_both_ok)


async def test_live_needs_no_store(cut_off: httpx2.AsyncClient) -> None:
    assert (await cut_off.get("/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_without_a_store_it_is_neither_ready_nor_healthy(cut_off: httpx2.AsyncClient, path: str) -> None:
    answer = await cut_off.get(path)
    assert (answer.status_code, answer.json()["success"], answer.headers["retry-after"]) == (503, False, "1")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", WEBHOOK, PROOF),
        ("GET", CALLS + "x", READER),
        ("GET", CALLS + "x?wait=0", READER),
        ("GET", BY_PHONE + "+18641234567", READER),
        ("GET", STATS, ADMIN),
        ("DELETE", CALLS + "x", ADMIN),
    ],
)
async def test_without_a_store_requests_are_503_and_may_be_repeated(
    cut_off: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    body = full_report("x") if method == "POST" else None
    answer = await cut_off.request(method, path, headers=headers, json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (answer.json()["success"], set(answer.json())) == (False, {"success", "error"})


async def test_a_live_call_is_answered_without_a_store(cut_off: httpx2.AsyncClient) -> None:
    answer = await cut_off.post(WEBHOOK, json=message("assistant-request"), headers=PROOF)
    assert (answer.status_code, "error" in answer.json()) == (200, True)


async def test_strangers_hear_names_and_ok_or_down(stranger: httpx2.AsyncClient, cut_off: httpx2.AsyncClient) -> None:
    async def hears(client: httpx2.AsyncClient, word: str) -> bool:
        answer = (await client.get("/health")).json()
        assert set(answer) == {"success", "status", "dependencies"}
        assert {name: state.keys() for name, state in answer["dependencies"].items()} == {
            "redis": {"status"},
            "notifications": {"status"},
        }
        return bool(answer["dependencies"]["redis"]["status"] == word)

    for client, word in ((stranger, "ok"), (cut_off, "down")):
        await eventually(partial(hears, client, word))


async def test_callers_with_a_token_hear_what_is_wrong_and_no_password(cut_off: httpx2.AsyncClient) -> None:
    answer = await cut_off.get("/health", headers=READER)
    assert answer.json()["version"] == __version__
    assert answer.json()["dependencies"]["redis"]["problem"]
    assert "a-password" not in answer.text


async def test_the_first_page_lists_what_is_served(client: httpx2.AsyncClient) -> None:
    answer = (await client.get("/")).json()
    listed = {(endpoint["method"], endpoint["path"]) for endpoint in answer["endpoints"]}
    expected = {("GET", path) for path in ("/health", "/health/live", "/health/ready", "/metrics", STATS)}
    expected |= {("POST", path) for path in BOTH_WEBHOOKS}
    expected |= {("GET", CALLS + "{call_id}"), ("DELETE", CALLS + "{call_id}"), ("GET", BY_PHONE + "{phone}")}
    assert answer["success"] is True
    assert expected <= listed
