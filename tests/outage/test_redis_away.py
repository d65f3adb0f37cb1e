"""Redis hangs, dies and comes back: 503 within 2 seconds, parked polls stay parked, and all heals by itself."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest

from tests.support.access_log import LONGEST_ANSWER_S, answers_of, log_length, slowest_s
from tests.support.eventually import eventually
from tests.support.raw_http import ask, post
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.traffic import get_when_served, open_client, post_until_taken, until_parked
from tests.support.vapi_sender import full_report, message, status_update


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
    replica = Replica(redis_url=fragile_redis.url).start()
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
    async with open_client(base_url=replica.url) as client:
        await until_ready(client)
        yield client


async def until_ready(client: httpx2.AsyncClient) -> None:
    """Return when the replica says that it can take webhooks."""

    async def is_ready() -> bool:
        return (await client.get("/health/ready")).status_code == 200

    await eventually(is_ready)


async def assert_answered_in_time(replica: Replica, number: int, *, since: int) -> None:
    """By the replica's own clock, for the requests that its log tells of since then."""
    answers = await answers_of(replica, number, lambda one: not one["route"].startswith("/health"), since=since)
    assert (len(answers), slowest_s(answers) < LONGEST_ANSWER_S) == (number, True), answers


async def test_who_asks_while_redis_is_away_hears_503_within_2_seconds_and_all_heals(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    call_id, since = f"away-{uuid.uuid4()}", await log_length(replica)
    outage.begin()
    asked = [
        client.post("/api/v1/vapi/webhook", json=full_report(call_id)),
        client.get(f"/api/v1/vapi/calls/{call_id}"),
        client.get(f"/api/v1/vapi/calls/{call_id}?wait=20"),
        client.delete(f"/api/v1/vapi/calls/{call_id}"),
        client.get("/api/v1/vapi/calls/by-phone/+18645550123"),
        client.get("/api/v1/vapi/cache/stats"),
    ]
    answers = await asyncio.gather(*asked)
    ready, health = await client.get("/health/ready"), await client.get("/health")
    live = await client.get("/health/live")
    outage.end()
    assert [answer.status_code for answer in answers] == [503] * len(asked)
    assert all(answer.headers["retry-after"] == "1" for answer in answers)
    assert [ready.status_code, health.status_code, live.status_code] == [503, 503, 200]
    await assert_answered_in_time(replica, len(asked), since=since)
    await until_ready(client)
    await post_until_taken(client, replica, full_report(call_id))
    assert (await get_when_served(client, CALLS + call_id)).json()["data"]["data_status"] == "complete"


async def test_many_who_ask_while_redis_is_away_all_hear_503_within_2_seconds(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    since = await log_length(replica)
    outage.begin()
    bodies = [json.dumps(full_report(f"many-{number}")).encode() for number in range(300)]
    answers = await asyncio.gather(*(ask(replica.port, post(body)) for body in bodies))
    outage.end()
    assert {answer.status for answer in answers} == {503}
    await assert_answered_in_time(replica, 300, since=since)


async def test_a_poll_parked_before_the_outage_stays_parked_and_gets_the_record_after_it(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    call_id = f"parked-{uuid.uuid4()}"
    poll = asyncio.create_task(client.get(f"/api/v1/vapi/calls/{call_id}?wait=25"))
    await until_parked(client, replica, 1)
    outage.begin()
    await asyncio.sleep(2.5)
    assert not poll.done()
    outage.end()
    await until_ready(client)
    await post_until_taken(client, replica, full_report(call_id))
    answer = await poll
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")


async def test_a_parked_poll_whose_deadline_falls_in_the_outage_hears_503(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    since, asked_at = await log_length(replica), time.monotonic()
    poll = asyncio.create_task(client.get("/api/v1/vapi/calls/nobody?wait=8"))
    await until_parked(client, replica, 1)
    outage.begin()
    answer = await poll
    outage.end()
    assert answer.status_code == 503
    assert time.monotonic() - asked_at > 7.9
    polled = await answers_of(replica, 1, lambda _: True, since=since)
    assert slowest_s(polled) < 8 + LONGEST_ANSWER_S


async def test_a_live_call_gets_its_reply_while_redis_is_away(
    client: httpx2.AsyncClient, replica: Replica, outage: Outage
) -> None:
    since = await log_length(replica)
    outage.begin()
    request = client.post("/api/v1/vapi/webhook", json=message("assistant-request", "live-1"))
    answer = await request
    outage.end()
    assert answer.status_code == 200
    assert "error" in answer.json()
    await assert_answered_in_time(replica, 1, since=since)


async def test_a_record_survives_a_redis_that_only_hung(
    client: httpx2.AsyncClient, replica: Replica, fragile_redis: RedisProcess
) -> None:
    await post_until_taken(client, replica, status_update("ringing", "survives-1"))
    fragile_redis.pause()
    await asyncio.sleep(1.2)
    fragile_redis.resume()
    await until_ready(client)
    assert (await get_when_served(client, CALLS + "survives-1")).json()["data"]["status"] == "ringing"


async def test_a_full_redis_is_not_asked_all_the_time_for_a_call_whose_grace_it_cannot_end(
    fragile_redis: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=fragile_redis.url, redis_key_prefix="full", report_grace_s=1)
    async with open_client(base_url=replica.url) as client:
        await post_until_taken(client, replica, status_update("ended", "graceless"))
        fragile_redis.client.config_set("maxmemory", "1mb")
        fragile_redis.client.config_resetstat()
        try:
            assert (await client.get("/api/v1/vapi/calls/graceless?wait=6")).status_code == 202
            assert fragile_redis.client.info("commandstats")["cmdstat_hmget"]["calls"] < 30
        finally:
            fragile_redis.client.config_set("maxmemory", "0")
