"""What ``/health`` says about Kestra, and that Kestra's trouble is not ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.replica import Replica
from tests.support.service_api import CREDENTIALS, READER, connected


@pytest.fixture(scope="module")
def kestra() -> Iterator[FakeKestra]:
    server = FakeKestra("v2", username="ops", password="a-password").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replica(kestra: FakeKestra) -> Iterator[Replica]:
    """Its Kestra takes its credentials."""
    replica = Replica(kestra_url=kestra.url, kestra_username="ops", kestra_password="a-password", **CREDENTIALS).start()
    yield replica
    replica.stop()


@pytest.fixture(scope="module")
def refused_replica(kestra: FakeKestra) -> Iterator[Replica]:
    """Its Kestra does not."""
    replica = Replica(kestra_url=kestra.url, kestra_token="a-wrong-token", **CREDENTIALS).start()
    yield replica
    replica.stop()


async def test_a_kestra_that_answers_is_ok(replica: Replica) -> None:
    async with connected(replica) as client:

        async def is_ok() -> bool:
            answer = await client.get("/health")
            return (answer.status_code, answer.json()["dependencies"]["kestra"]) == (200, {"status": "ok"})

        await eventually(is_ok)


async def test_a_kestra_that_refuses_us_is_down_and_we_are_not(refused_replica: Replica) -> None:
    async with connected(refused_replica) as client:
        health, ready = await client.get("/health"), await client.get("/health/ready")
    assert (health.status_code, health.json()["status"], ready.status_code) == (200, "ok", 200)
    assert health.json()["dependencies"]["kestra"] == {"status": "down"}


async def test_callers_with_a_token_hear_what_is_wrong(refused_replica: Replica) -> None:
    async with connected(refused_replica) as client:

        async def is_told() -> bool:
            answer = await client.get("/health", headers=READER)
            assert "a-wrong-token" not in answer.text + refused_replica.log
            return "KESTRA_TOKEN" in answer.json()["dependencies"]["kestra"]["problem"]

        await eventually(is_told)


async def test_health_checks_do_not_all_reach_kestra(replica: Replica, kestra: FakeKestra) -> None:
    kestra.requests.clear()
    async with connected(replica) as client:
        for _ in range(20):
            await client.get("/health")
    assert len(kestra.requests) < 5


async def test_without_a_kestra_none_is_named(closed_replica: Replica) -> None:
    async with connected(closed_replica) as client:
        assert "kestra" not in (await client.get("/health")).json()["dependencies"]
