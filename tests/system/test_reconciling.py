"""Webhooks that never came are made up for by asking VAPI: real replicas, real polls, a VAPI that sends nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.store.keys import Keys
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.passing_time import let_pass
from tests.support.reconciling_replica import asked_for
from tests.support.redis_server import RedisProcess
from tests.support.replica import CANCELS, Replica
from tests.support.routes import CALLS
from tests.support.traffic import get_call, get_stats, get_when_served, metric_at, post_until_taken, until_parked
from tests.support.vapi_sender import full_report

PREFIX: Final = "reconciling"
KEYS: Final = Keys(PREFIX)
Pair = tuple[Replica, Replica]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as vapi:
        yield vapi


@pytest.fixture(scope="module")
def pair(redis_process: RedisProcess, vapi: FakeVapi) -> Iterator[Pair]:
    """Two replicas that may ask the VAPI."""
    settings = {"redis_url": redis_process.url, "redis_key_prefix": PREFIX, **vapi.settings}
    first, second = Replica(**settings).start(), Replica(**settings).start()
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture
def unknown_id() -> str:
    """An id of VAPI's form that it never gave."""
    return str(uuid.uuid4())


async def poll(client: httpx2.AsyncClient, replica: Replica, call_id: str, **query: str) -> httpx2.Response:
    return await get_when_served(client, replica.url + CALLS + call_id, query)


async def test_a_parked_poll_gets_the_record_of_a_call_of_which_no_webhook_came(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi
) -> None:
    call_id = vapi.add_call(metadata={"providerName": "Acme"})
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    polls = [poll(client, replica, call_id, wait="20") for replica in pair for _ in range(10)]
    answers = await asyncio.gather(*polls)
    assert {answer.status_code for answer in answers} == {200}
    data = answers[0].json()["data"]
    assert (data["data_status"], data["outcome"], data["provider_name"]) == ("complete", "completed", "Acme")
    assert asked_for(vapi, call_id) == 1


async def test_a_call_that_fell_silent_is_followed_to_its_end(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi, redis: Redis
) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(statuses=("queued", "in-progress"), is_silent=True))

    async def polled(data_status: str, status: str) -> bool:
        data = (await get_call(client, pair[1], call_id)).json().get("data", {})
        return (data.get("data_status"), data.get("status")) == (data_status, status)

    await eventually(lambda: polled("pending", "in-progress"))
    course = asyncio.create_task(
        vapi.run_call(call_id, plan=Plan(statuses=("ended",), analysis_after_s=3600, is_silent=True))
    )
    await eventually(lambda: vapi.calls[call_id]["status"] == "ended")
    await let_pass(redis, KEYS.call(call_id.encode()), 31)
    await eventually(lambda: polled("partial", "ended"))
    course.cancel()
    await vapi.run_call(call_id, plan=Plan(statuses=(), is_silent=True))
    await let_pass(redis, KEYS.call(call_id.encode()), 6)
    answer = await poll(client, pair[0], call_id, wait="20")
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")


async def test_a_parked_poll_looks_again_without_anybody_waking_it(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi
) -> None:
    """VAPI is away at first; the poll that is parked meanwhile is answered by the second request, 5 s later."""
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    vapi.refuse_next(500, "We are having a bad day.")
    began = time.monotonic()
    answer = await poll(client, pair[0], call_id, wait="20")
    assert (answer.status_code, asked_for(vapi, call_id)) == (200, 2)
    assert time.monotonic() - began > 4.5


async def test_a_call_that_vapi_does_not_know_ends_the_polls_that_wait_for_it(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi, redis: Redis, unknown_id: str
) -> None:
    parked = asyncio.create_task(poll(client, pair[0], unknown_id, wait="20"))
    await until_parked(client, pair[0], 1)

    await eventually(lambda: is_noted(redis, unknown_id))
    assert not parked.done()
    await let_pass(redis, KEYS.call(unknown_id.encode()), 10)
    later = await poll(client, pair[1], unknown_id, wait="20")
    answers = [await parked, later, await poll(client, pair[0], unknown_id, wait="20")]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(404, "Call result not found")] * 3

    await post_until_taken(client, pair[1], full_report(unknown_id))
    assert (await poll(client, pair[0], unknown_id, wait="20")).status_code == 200


async def is_noted(redis: Redis, call_id: str) -> bool:
    """Whether VAPI's first 404 for the call is in Redis."""
    asked: Any = await redis.hget(KEYS.call(call_id.encode()).decode(), "asked")
    return asked is not None and asked.split()[3] != b"0"


async def test_a_vapi_that_hangs_delays_no_poll_and_no_shutdown(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica], vapi: FakeVapi, unknown_id: str
) -> None:
    replica = start_replica(**vapi.settings)
    vapi.hang_next()
    assert (await poll(client, replica, unknown_id)).status_code == 404

    async def hangs() -> bool:
        return asked_for(vapi, unknown_id) == 1

    await eventually(hangs)
    answers = [await poll(client, replica, unknown_id, wait=wait) for wait in ("0", "0.1")]
    assert [answer.status_code for answer in answers] == [202, 202]
    replica.terminate()
    assert await asyncio.to_thread(replica.wait) == 0
    assert CANCELS not in replica.log, "nothing was waited for"
    assert "Traceback" not in replica.log


async def test_what_came_of_asking_is_in_stats_and_metrics(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica], vapi: FakeVapi, unknown_id: str
) -> None:
    replica = start_replica(**vapi.settings)
    for call_id in (vapi.add_call(), unknown_id):
        await poll(client, replica, call_id)

    async def are_counted() -> bool:
        stats = await get_stats(client, replica.url)
        return bool(stats["reconciled"] == {"merged": 1, "unchanged": 0, "missing": 1, "failed": 0})

    await eventually(are_counted)
    assert await metric_at(client, replica, 'vapi_reconciled_total{result="merged"}') == 1
