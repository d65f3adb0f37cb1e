"""Redis hangs, dies and comes back: 503 within 2 seconds, parked polls stay parked, and all heals by itself."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest

from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.vapi_sender import full_report, message, status_update
from tests.system.traffic import until_parked

HEALS_S = 2.5
"""The promise is a second; the rest is for a noisy machine."""


class Outage:
    """A Redis that is away until it is brought back, and a replica that depends on it."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], object]) -> None:
        self.begin = begin
        self.end = end


@pytest.fixture(scope="module")
def fragile_redis() -> Iterator[RedisProcess]:
    server = RedisProcess().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replica(fragile_redis: RedisProcess) -> Iterator[Replica]:
    replica = Replica(redis_url=fragile_redis.url, log_level="warning").start()
    yield replica
    replica.stop()


@pytest.fixture(params=["hangs", "dies"])
def outage(request: pytest.FixtureRequest, fragile_redis: RedisProcess) -> Iterator[Outage]:
    if request.param == "hangs":
        yield Outage(fragile_redis.pause, fragile_redis.resume)
        fragile_redis.resume()
        return
    yield Outage(fragile_redis.kill, fragile_redis.start)
    fragile_redis.kill()
    fragile_redis.start()


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the replica; the replica is well when the test begins."""
    async with httpx2.AsyncClient(base_url=replica.url, timeout=30, limits=httpx2.Limits()) as client:
        await until_ready(client)
        yield client


async def until_ready(client: httpx2.AsyncClient, within_s: float = 5.0) -> float:
    """Seconds until the replica said that it can take webhooks."""
    started = time.monotonic()
    while time.monotonic() - started < within_s:
        if (await client.get("/health/ready")).status_code == 200:
            return time.monotonic() - started
        await asyncio.sleep(0.05)
    raise AssertionError(f"not ready within {within_s} s")


async def timed(request: asyncio.Future[httpx2.Response]) -> tuple[httpx2.Response, float]:
    started = time.monotonic()
    return await request, time.monotonic() - started


async def test_who_asks_while_redis_is_away_hears_503_within_2_seconds_and_all_heals(
    client: httpx2.AsyncClient, outage: Outage
) -> None:
    call_id = f"away-{uuid.uuid4()}"
    outage.begin()
    asked = [
        client.post("/api/v1/vapi/webhook", json=full_report(call_id)),
        client.get(f"/api/v1/vapi/calls/{call_id}"),
        client.get(f"/api/v1/vapi/calls/{call_id}?wait=20"),
        client.delete(f"/api/v1/vapi/calls/{call_id}"),
        client.get("/api/v1/vapi/calls/by-phone/+18645550123"),
        client.get("/api/v1/vapi/cache/stats"),
    ]
    answers = await asyncio.gather(*(timed(asyncio.ensure_future(request)) for request in asked))
    ready, health = await client.get("/health/ready"), await client.get("/health")
    live = await client.get("/health/live")
    outage.end()
    assert [answer.status_code for answer, _ in answers] == [503] * len(asked)
    assert all(answer.headers["retry-after"] == "1" for answer, _ in answers)
    assert max(seconds for _, seconds in answers) < 2
    assert [ready.status_code, health.status_code, live.status_code] == [503, 503, 200]
    assert await until_ready(client) < HEALS_S
    assert (await client.post("/api/v1/vapi/webhook", json=full_report(call_id))).status_code == 200
    assert (await client.get(f"/api/v1/vapi/calls/{call_id}")).json()["data"]["data_status"] == "complete"


async def test_many_who_ask_while_redis_is_away_all_hear_503_within_2_seconds(
    client: httpx2.AsyncClient, outage: Outage
) -> None:
    outage.begin()
    posts = (client.post("/api/v1/vapi/webhook", json=full_report(f"many-{number}")) for number in range(300))
    answers = await asyncio.gather(*(timed(asyncio.ensure_future(post)) for post in posts))
    outage.end()
    assert {answer.status_code for answer, _ in answers} == {503}
    assert (
        max(seconds for _, seconds in answers) < 4
    )  # 300 connections are opened within it, on a machine that runs all tests


async def test_a_poll_parked_before_the_outage_stays_parked_and_gets_the_record_after_it(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    call_id = f"parked-{uuid.uuid4()}"
    poll = asyncio.create_task(client.get(f"/api/v1/vapi/calls/{call_id}?wait=20"))
    await until_parked(client, replica, 1)
    outage.begin()
    await asyncio.sleep(2.5)
    assert not poll.done()
    outage.end()
    await until_ready(client)
    await client.post("/api/v1/vapi/webhook", json=full_report(call_id))
    async with asyncio.timeout(HEALS_S):
        answer = await poll
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")


async def test_a_parked_poll_whose_deadline_falls_in_the_outage_hears_503(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    poll = asyncio.create_task(timed(asyncio.ensure_future(client.get("/api/v1/vapi/calls/nobody?wait=1"))))
    await until_parked(client, replica, 1)
    outage.begin()
    answer, seconds = await poll
    outage.end()
    assert answer.status_code == 503
    assert 0.9 < seconds < 3.2


async def test_a_live_call_gets_its_reply_while_redis_is_away(client: httpx2.AsyncClient, outage: Outage) -> None:
    outage.begin()
    request = client.post("/api/v1/vapi/webhook", json=message("assistant-request", "live-1"))
    answer, seconds = await timed(asyncio.ensure_future(request))
    outage.end()
    assert answer.status_code == 200
    assert "error" in answer.json()
    assert seconds < 2


async def test_a_record_survives_a_redis_that_only_hung(
    client: httpx2.AsyncClient, fragile_redis: RedisProcess
) -> None:
    await client.post("/api/v1/vapi/webhook", json=status_update("ringing", "survives-1"))
    fragile_redis.pause()
    await asyncio.sleep(1.2)
    fragile_redis.resume()
    await until_ready(client)
    assert (await client.get("/api/v1/vapi/calls/survives-1")).json()["data"]["status"] == "ringing"
