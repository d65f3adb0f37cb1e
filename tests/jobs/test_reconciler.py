"""What no webhook told is found by asking VAPI: for whom it is asked, how often, and what becomes of the answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from service.calls.stored_call import TOMBSTONE, UNKNOWN_TO_VAPI, StoredCall
from service.jobs.reconciler import LOOK_AGAIN_S, MAX_PLANS, MAX_QUEUED, MAX_UNKNOWN_QUEUED
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.opened_store import OpenedStore
from tests.support.reconciling_replica import OneReplica, StartReplica, asked_for, ended, pass_time
from tests.support.store_events import change, change_from, record, stored
from tests.support.vapi_sender import full_report, status_update

UNKNOWN = "11111111-2222-4333-8444-555555555555"
"""A call id of VAPI's form that it never gave."""

A_MOMENT_S = 0.15


@pytest.fixture
async def opened(vapi: FakeVapi) -> AsyncIterator[OpenedStore]:
    opened = OpenedStore("memory://", {**vapi.settings, "RECONCILE_PER_SECOND": "1000"})
    yield opened
    await opened.close()


async def counted(replica: OneReplica, **results: int) -> None:
    """Return when these are the results of asking."""

    async def stand() -> bool:
        return replica.results() == results

    await eventually(stand)


async def test_an_ended_call_that_no_webhook_told_of_is_found(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call(metadata={"providerName": "Acme"})
    await vapi.run_call(call_id)
    assert await replica.read_and_schedule(call_id) is None
    await counted(replica, merged=1)

    found = await record(opened.store, call_id)
    assert (found["data_status"], found["outcome"], found["provider_name"]) == ("complete", "completed", "Acme")
    assert replica.calls_ended() == 1


async def test_a_final_record_is_not_asked_for(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    await opened.store.merge(change_from(full_report()))
    assert replica.reconciler.schedule_if_due(b"call-1", await stored(opened.store)) == math.inf
    await asyncio.sleep(A_MOMENT_S)
    assert vapi.requests == []


async def test_a_deleted_call_is_not_asked_for(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    await opened.store.delete(b"call-1")
    assert replica.reconciler.schedule_if_due(b"call-1", await opened.store.find(b"call-1")) == math.inf
    replica.reconciler.schedule(b"call-1")
    await asyncio.sleep(A_MOMENT_S)
    assert vapi.requests == []


@pytest.mark.parametrize(("status", "due_in_s"), [("in-progress", 30), ("ended", 5)])
async def test_a_call_just_heard_of_is_considered_again_when_it_is_due(
    opened: OpenedStore, vapi: FakeVapi, replica: OneReplica, status: str, due_in_s: float
) -> None:
    await opened.store.merge(change_from(status_update(status)))
    call = await stored(opened.store)
    considered_at = asyncio.get_running_loop().time()
    again_at = replica.reconciler.schedule_if_due(b"call-1", call)
    await asyncio.sleep(A_MOMENT_S)
    assert again_at - considered_at == pytest.approx(due_in_s, abs=4)
    assert vapi.requests == []


async def test_a_silent_call_that_goes_on_is_asked_for_every_thirty_seconds(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(statuses=("in-progress",)))
    await replica.read_and_schedule(call_id)
    await counted(replica, merged=1)
    assert (await record(opened.store, call_id))["status"] == "in-progress"

    await pass_time(opened, call_id, 31)
    await replica.read_and_schedule(call_id)
    await counted(replica, merged=1, unchanged=1)
    again_at = replica.reconciler.schedule_if_due(call_id.encode(), await stored(opened.store, call_id))
    assert again_at - asyncio.get_running_loop().time() == pytest.approx(30, abs=10)
    assert (await record(opened.store, call_id))["version"] == 1


async def test_an_answer_before_the_analysis_is_followed_by_the_one_with_it(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    course = asyncio.create_task(vapi.run_call(call_id, plan=Plan(analysis_after_s=math.inf)))
    await eventually(lambda: is_ended(vapi, call_id))
    await replica.read_and_schedule(call_id)
    await counted(replica, merged=1)
    assert (await record(opened.store, call_id))["data_status"] == "partial"
    await ended(course)

    await vapi.run_call(call_id)
    await pass_time(opened, call_id, 6)
    await replica.read_and_schedule(call_id)
    await counted(replica, merged=2)
    assert (await record(opened.store, call_id))["data_status"] == "complete"


async def is_ended(vapi: FakeVapi, call_id: str) -> bool:
    return bool(vapi.calls[call_id]["status"] == "ended")


async def test_however_many_poll_and_wherever_one_request_is_made(
    vapi: FakeVapi, opened: OpenedStore, start: StartReplica
) -> None:
    replicas = [await start() for _ in range(3)]
    vapi.be_slow(0.2)
    call_id = vapi.add_call()
    for _ in range(20):
        await asyncio.gather(*(replica.read_and_schedule(call_id) for replica in replicas))
        await asyncio.sleep(0.02)
    await eventually(lambda: sum(replica.results().get("merged", 0) for replica in replicas) == 1)
    assert asked_for(vapi, call_id) == 1
    assert (await stored(opened.store, call_id)).version == 1


async def test_a_poll_that_parks_looks_again_when_the_call_may_be_asked_for(replica: OneReplica) -> None:
    now = asyncio.get_running_loop().time()
    assert replica.reconciler.schedule_if_due(UNKNOWN.encode(), None) - now == pytest.approx(LOOK_AGAIN_S, abs=4)
    await counted(replica, missing=1)
    assert replica.reconciler.schedule_if_due(UNKNOWN.encode(), None) - now == pytest.approx(5, abs=10)


async def test_two_404_from_vapi_make_the_call_missing_and_a_webhook_makes_it_a_record(
    opened: OpenedStore, start: StartReplica
) -> None:
    first, other = await start(), await start()
    await first.read_and_schedule(UNKNOWN)
    await counted(first, missing=1)
    await pass_time(opened, UNKNOWN, 10)
    assert await other.read_and_schedule(UNKNOWN) is None
    await counted(other, missing=1)

    assert await other.read_and_schedule(UNKNOWN) == UNKNOWN_TO_VAPI
    await opened.store.merge(change(UNKNOWN, status=2))
    assert isinstance(await other.read_and_schedule(UNKNOWN), StoredCall)


async def test_a_call_deleted_while_vapi_is_asked_stays_deleted(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    vapi.be_slow(2.5)
    await replica.read_and_schedule(call_id)
    await eventually(lambda: is_asked(vapi, call_id))
    await opened.store.delete(call_id.encode())
    await counted(replica, unchanged=1)
    assert await opened.store.find(call_id.encode()) == TOMBSTONE


async def is_asked(vapi: FakeVapi, call_id: str) -> bool:
    return asked_for(vapi, call_id) > 0


async def test_subscribed_calls_are_asked_for_by_what_redis_knows(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id)
    await opened.store.merge(change(call_id, status=4))
    replica.reconciler.schedule(call_id.encode())
    await asyncio.sleep(A_MOMENT_S)
    assert vapi.requests == []

    await pass_time(opened, call_id, 30)
    replica.reconciler.schedule(call_id.encode())
    await counted(replica, merged=1)


async def test_who_waits_paused_is_not_left_waiting_for_the_next_sweep(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id)
    await opened.store.merge(change_from(status_update("ended", call_id)))
    await pass_time(opened, call_id, 2.0)
    replica.reconciler.schedule(call_id.encode())
    await asyncio.sleep(A_MOMENT_S)
    assert vapi.requests == []

    await counted(replica, merged=1)


async def test_what_waits_to_be_asked_for_is_bounded_and_comes_again(opened: OpenedStore) -> None:
    idle = OneReplica(opened)
    queue = idle.reconciler._queue
    for number in range(MAX_UNKNOWN_QUEUED + 100):
        idle.reconciler.schedule_if_due(b"unknown-%d" % number, None)
    assert queue.qsize() == MAX_UNKNOWN_QUEUED
    for number in range(MAX_QUEUED):
        idle.reconciler.schedule(b"known-%d" % number)
    assert queue.qsize() == MAX_QUEUED

    queue.get_nowait()
    idle.reconciler.schedule(b"known-%d" % MAX_QUEUED)
    assert queue.qsize() == MAX_QUEUED


async def test_ids_that_never_were_keep_no_call_from_its_result(
    vapi: FakeVapi, opened: OpenedStore, start: StartReplica
) -> None:
    waiting = OneReplica(opened)
    call_id = vapi.add_call()
    await opened.store.merge(change_from(status_update("ended", call_id)))
    await pass_time(opened, call_id, 6)
    for number in range(MAX_QUEUED):
        waiting.reconciler.schedule_if_due(b"unknown-%d" % number, None)
    await waiting.read_and_schedule(call_id)
    async with waiting:
        await eventually(lambda: is_asked(vapi, call_id))
    assert vapi.requests.index(("GET", f"/call/{call_id}")) < waiting.reconciler.workers


async def test_what_is_remembered_of_calls_is_bounded(opened: OpenedStore) -> None:
    idle = OneReplica(opened)
    for number in range(MAX_PLANS + 100):
        idle.reconciler._plan(b"call-%d" % number, "unknown", 5.0)
    assert len(idle.reconciler._plans) == MAX_PLANS
    assert b"call-0" not in idle.reconciler._plans
