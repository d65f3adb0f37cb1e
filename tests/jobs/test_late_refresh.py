"""VAPI is asked once more for a complete record that lacks what it adds after the report; for no other, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

from service.jobs.late_refresh import MAX_QUEUED
from service.store.calls import REFRESH_AFTER_MS
from service.store.keys import bucket_of
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.opened_store import OpenedStore
from tests.support.passing_time import let_refresh_pass
from tests.support.reconciling_replica import OneReplica, StartReplica, asked_for, pass_time
from tests.support.store_events import change_from, record, stored
from tests.support.vapi_sender import full_report, status_update

A_MOMENT_S: Final = 0.15
SAID: Final = {"transcript": "AI: Hello.\nUser: Hi.\n"}


@pytest.fixture
async def opened(vapi: FakeVapi) -> AsyncIterator[OpenedStore]:
    opened = OpenedStore("memory://", {**vapi.settings, "RECONCILE_PER_SECOND": "1000"})
    yield opened
    await opened.close()


async def unrecorded_call(vapi: FakeVapi, opened: OpenedStore) -> str:
    """A call that VAPI recorded, and whose report came before the recording was there, a minute ago."""
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    await opened.store.merge(change_from(full_report(call_id, artifact=SAID)))
    await be_due(opened, call_id)
    return call_id


async def be_due(opened: OpenedStore, call_id: str) -> None:
    key = opened.keys.refreshes[bucket_of(call_id.encode())]
    await let_refresh_pass(opened.redis, key, call_id, REFRESH_AFTER_MS / 1000)


async def is_put_by(opened: OpenedStore, call_id: str) -> bool:
    return await opened.redis.zscore(opened.keys.refreshes[bucket_of(call_id.encode())].decode(), call_id) is not None


async def refreshed(*replicas: OneReplica, **results: int) -> None:
    """Return when these are the results of late refreshes, all replicas together."""

    async def stand() -> bool:
        found: dict[str, int] = {}
        for replica in replicas:
            for result, count in replica.refreshes().items():
                found[result] = found.get(result, 0) + count
        return found == results

    await eventually(stand)


async def test_the_record_gains_the_recording_by_one_request_of_all_replicas(
    vapi: FakeVapi, opened: OpenedStore, start: StartReplica
) -> None:
    replicas = [await start() for _ in range(3)]
    call_id = await unrecorded_call(vapi, opened)
    before = await record(opened.store, call_id)
    await asyncio.gather(*(replica.sweep.sweep() for replica in replicas))
    await refreshed(*replicas, merged=1)

    after = await record(opened.store, call_id)
    assert after["recording_url"] == vapi.calls[call_id]["recordingUrl"]
    assert after["version"] == before["version"] + 1
    assert after["expires_at"] >= before["expires_at"]
    for _ in range(3):
        await be_due(opened, call_id)
        await asyncio.gather(*(replica.sweep.sweep() for replica in replicas))
    await asyncio.sleep(A_MOMENT_S)
    assert asked_for(vapi, call_id) == 1
    assert sum(replica.calls_ended() for replica in replicas) == 0, "it ended before, and is not counted again"
    assert sum(replica.results().get("merged", 0) for replica in replicas) == 0, "no webhook was missing"


async def test_the_record_gains_outputs_that_were_asked_for(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    plan = {"artifactPlan": {"structuredOutputIds": ["u1"]}}
    call_id = vapi.add_call(assistant=plan)
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    await replica.read_and_schedule(call_id)  # VAPI has the analysis by now, but not the outputs

    async def is_put_by_now() -> bool:
        return await is_put_by(opened, call_id)

    await eventually(is_put_by_now)
    assert (await record(opened.store, call_id))["data_status"] == "complete"
    vapi.calls[call_id]["artifact"]["structuredOutputs"] = {"u1": {"name": "CSAT", "result": 8}}
    await be_due(opened, call_id)
    await replica.sweep.sweep()
    await refreshed(replica, merged=1)
    assert (await record(opened.store, call_id))["structured_outputs"] == {"CSAT": 8}


async def test_what_came_meanwhile_is_not_asked_for(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    call_id = await unrecorded_call(vapi, opened)
    await opened.store.merge(change_from(full_report(call_id)))
    assert await is_put_by(opened, call_id)
    await replica.sweep.sweep()
    await until_forgotten(opened, call_id)
    assert vapi.requests == []


async def test_a_deleted_call_is_not_asked_for(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    call_id = await unrecorded_call(vapi, opened)
    await opened.store.delete(call_id.encode())
    await replica.sweep.sweep()
    await until_forgotten(opened, call_id)
    assert vapi.requests == []


async def until_forgotten(opened: OpenedStore, call_id: str) -> None:
    async def is_forgotten() -> bool:
        return not await is_put_by(opened, call_id)

    await eventually(is_forgotten)
    await asyncio.sleep(A_MOMENT_S)


async def test_a_request_that_fails_is_not_repeated(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    call_id = await unrecorded_call(vapi, opened)
    vapi.refuse_next(500)
    await replica.sweep.sweep()
    await refreshed(replica, failed=1)
    await be_due(opened, call_id)
    await replica.sweep.sweep()
    await asyncio.sleep(A_MOMENT_S)
    assert asked_for(vapi, call_id) == 1


async def test_a_call_that_vapi_has_forgotten_keeps_its_record(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = await unrecorded_call(vapi, opened)
    before = await stored(opened.store, call_id)
    del vapi.calls[call_id]
    await replica.sweep.sweep()
    await refreshed(replica, missing=1)
    assert await stored(opened.store, call_id) == before


async def test_without_a_free_turn_the_call_waits(vapi: FakeVapi, opened: OpenedStore, replica: OneReplica) -> None:
    call_id = await unrecorded_call(vapi, opened)
    await opened.redis.set(opened.keys.next_turn.decode(), 2**52)  # us, in the year 2112
    await replica.sweep.sweep()
    await asyncio.sleep(A_MOMENT_S)
    assert vapi.requests == []
    assert await is_put_by(opened, call_id)

    await opened.redis.delete(opened.keys.next_turn.decode())

    async def is_asked() -> bool:
        await be_due(opened, call_id)
        await replica.sweep.sweep()
        return asked_for(vapi, call_id) == 1

    await eventually(is_asked)


async def test_calls_that_wait_to_be_asked_for_come_first(vapi: FakeVapi) -> None:
    """Turns are four a second here, and there are nine other calls: they keep the turns taken for two seconds."""
    slow = OpenedStore("memory://", {**vapi.settings, "RECONCILE_PER_SECOND": "4"})
    slow_replica = OneReplica(slow)
    call_id = await unrecorded_call(vapi, slow)
    others = [vapi.add_call() for _ in range(9)]
    for other in others:
        await slow.store.merge(change_from(status_update("ended", other)))
        await pass_time(slow, other, 6)
        slow_replica.reconciler.schedule(other.encode())
    slow_replica.late_refresh.schedule(call_id.encode())
    async with slow_replica:

        async def all_are_asked() -> bool:
            slow_replica.late_refresh.schedule(call_id.encode())
            return len(vapi.requests) >= len(others) + 1

        await eventually(all_are_asked)
    await slow.close()
    assert [path for _, path in vapi.requests].index(f"/call/{call_id}") >= len(others) - 1


async def test_a_record_that_cannot_be_read_does_not_come_back(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = await unrecorded_call(vapi, opened)
    await opened.redis.hset(opened.keys.call(call_id.encode()).decode(), "state", "damaged")
    await replica.sweep.sweep()
    await until_forgotten(opened, call_id)
    assert vapi.requests == []


async def test_what_waits_here_is_bounded(opened: OpenedStore) -> None:
    idle = OneReplica(opened)
    for number in range(MAX_QUEUED + 100):
        idle.late_refresh.schedule(b"call-%d" % (number // 2))
        idle.late_refresh.schedule(b"call-%d" % number)
    assert idle.late_refresh._queue.qsize() == MAX_QUEUED
