"""Kestra in trouble, Redis away, replicas that die or leave: executions are resumed all the same, within bounds."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.store.keys import bucket_of
from service.store.subscriptions import SubscriptionStore
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.opened_store import OpenedStore
from tests.support.redis_server import SURVIVES_KILL, RedisProcess
from tests.support.resuming_replica import OneReplica, paused_execution, resumes_sent
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report

CALL = b"call-1"
EXECUTION = b"execution"


@pytest.mark.parametrize("status", [401, 503])
async def test_trouble_is_tried_again(opened: OpenedStore, kestra: FakeKestra, status: int) -> None:
    execution = paused_execution(kestra)
    kestra.answer_next(status, method="POST")
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)

    assert (execution.resumes, replica.results["retried"] >= 1) == (1, True)


async def test_a_kestra_that_hangs_is_given_up_in_time_and_tried_again(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    kestra.hang_next(method="POST", is_done=True)
    async with OneReplica(opened, try_within_s=3.0, sweeps=False) as replica:
        await replica.calls.merge(change_from(full_report()))
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.until_counted(resumed=1)

    assert (execution.resumes, replica.results["retried"] >= 1) == (1, True)


@pytest.mark.parametrize(("trouble", "minutes"), [(False, 11), (True, 61)])
async def test_what_never_comes_right_is_dropped_at_last(
    opened: OpenedStore, kestra: FakeKestra, *, trouble: bool, minutes: int
) -> None:
    execution = paused_execution(kestra)
    execution.histories = execution.histories[:-1]
    if trouble:
        kestra.answer_next(503, method="POST", times=99)
    await opened.store.merge(change_from(full_report()))
    async with OneReplica(opened) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.until_counted(retried=1)
        # Aged by hand: nobody waits for an hour.
        bucket = bucket_of(CALL)
        seconds, _ = await opened.redis.time()
        aged = f"tried {(seconds - 60 * minutes) * 1000} 50"
        await opened.redis.hset((opened.keys.subscriptions[bucket] + CALL).decode(), "execution", aged)
        await opened.redis.zadd(opened.keys.due(bucket), {b"call-1 execution": 0})
        await replica.until_counted(dropped=1)
    assert execution.resumes == 0


async def test_ten_at_most_are_resumed_at_a_time_and_all_in_the_end(opened: OpenedStore, kestra: FakeKestra) -> None:
    executions = [paused_execution(kestra, f"execution{number}") for number in range(35)]
    async with OneReplica(opened, try_within_s=8.0, lease_ms=60_000) as replica:
        await kestra_is_known(replica, kestra)
        sent_before = resumes_sent(kestra)
        kestra.hang_next(method="POST", times=10)
        for number in range(35):
            await replica.resumer.subscribe(b"call-%d" % number, b"execution%d" % number)
        for number in range(35):
            await replica.calls.merge(change_from(full_report(f"call-{number}")))

        async def are_sent() -> bool:
            return resumes_sent(kestra) == sent_before + 10

        await eventually(are_sent)
        await asyncio.sleep(0.3)
        assert await are_sent(), "an eleventh"
        await replica.until_counted(resumed=36)

    assert {execution.resumes for execution in executions} == {1}


async def kestra_is_known(replica: OneReplica, kestra: FakeKestra) -> None:
    """Its version was asked for: from now on a try is one request."""
    paused_execution(kestra, "first")
    await replica.calls.merge(change_from(full_report("first")))
    await replica.resumer.subscribe(b"first", b"first")
    await replica.until_counted(resumed=1)


async def test_a_lease_that_its_holder_did_not_survive_is_taken_over(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    dead = SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=300)
    await opened.store.merge(change_from(full_report()))
    await dead.subscribe(CALL, EXECUTION)
    await dead.claim(bucket_of(CALL), 1)
    async with OneReplica(opened) as replica:
        await replica.until_counted(resumed=1)

    assert execution.resumes == 1


async def test_a_try_that_outlived_its_lease_counts_nothing(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    await opened.store.merge(change_from(full_report()))
    kestra.hang_next(method="POST")
    async with OneReplica(opened, lease_ms=500, try_within_s=3.0, sweeps=False) as slow:
        await slow.resumer.subscribe(CALL, EXECUTION)
        await eventually(lambda: has_sent(kestra))
        async with OneReplica(opened) as quick:
            await quick.until_counted(resumed=1)
        await eventually(lambda: not slow.resumer._under_way)

    assert (execution.resumes, slow.results) == (1, {})


async def test_what_nobody_foresaw_hurts_nobody_else(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    await opened.store.merge(change_from(full_report()))
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.resumer.subscribe(CALL, b"\xff")  # no request can say so
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.until_counted(resumed=1)

    assert (execution.resumes, replica.results) == (1, {"resumed": 1})


async def test_what_is_under_way_at_the_end_is_finished(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    await opened.store.merge(change_from(full_report()))
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)

        async def is_asked() -> bool:
            return bool(kestra.requests)

        await eventually(is_asked)

    assert (execution.resumes, replica.results) == (1, {"resumed": 1})


async def test_what_is_cut_off_at_the_end_is_given_back(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    await opened.store.merge(change_from(full_report()))
    kestra.hang_next(method="POST")
    async with OneReplica(opened, lease_ms=60_000, sweeps=False) as leaving:
        await leaving.resumer.subscribe(CALL, EXECUTION)
        await eventually(lambda: has_sent(kestra))
    async with OneReplica(opened) as staying:
        await staying.until_counted(resumed=1)

    assert (execution.resumes, leaving.results) == (1, {})


async def test_an_outage_of_redis_delays_and_loses_nothing(kestra: FakeKestra) -> None:
    redis = RedisProcess(*SURVIVES_KILL).start()
    execution = paused_execution(kestra)
    opened = OpenedStore(redis.url, {"KESTRA_URL": kestra.url, "STORE_TIMEOUT_S": "1.2"})
    try:
        async with OneReplica(opened, lease_ms=1000, try_within_s=1.0) as replica:
            await replica.resumer.subscribe(CALL, EXECUTION)
            kestra.hang_next(method="POST")
            await replica.calls.merge(change_from(full_report()))
            await eventually(lambda: has_sent(kestra))
            await asyncio.to_thread(redis.kill)
            with capture_logs() as told:
                await eventually(lambda: any(line["event"] == "resume.not_recorded" for line in told))
            await asyncio.to_thread(redis.start)
            await replica.until_counted(resumed=1)
    finally:
        await opened.close()
        redis.stop()
    assert execution.resumes == 1


async def has_sent(kestra: FakeKestra) -> bool:
    return resumes_sent(kestra) > 0
