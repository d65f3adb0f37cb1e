"""Asking VAPI goes wrong: what is logged and counted, what is tried again, and that nothing ever ends the asking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.opened_store import OpenedStore
from tests.support.reconciling_replica import OneReplica, asked_for, pass_time
from tests.support.redis_server import RedisProcess
from tests.support.store_events import record

UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
async def opened(vapi: FakeVapi) -> AsyncIterator[OpenedStore]:
    """With two workers."""
    opened = OpenedStore("memory://", {**vapi.settings, "RECONCILE_PER_SECOND": "2"})
    yield opened
    await opened.close()


async def counted(replica: OneReplica, **results: int) -> None:
    async def stand() -> bool:
        return replica.results() == results

    await eventually(stand)


async def next_turn(opened: OpenedStore, call_id: str) -> None:
    """As if enough time had passed for the call to be asked for again, and for anybody to ask."""
    await pass_time(opened, call_id, 20)
    await opened.redis.delete(opened.keys.next_turn)


async def test_an_outage_of_vapi_is_counted_and_logged_once_and_the_call_is_found_after_it(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    with structlog.testing.capture_logs() as entries:
        for failures in (1, 2, 3):
            vapi.refuse_next(500, "We are having a bad day.")
            replica.reconciler.schedule(call_id.encode())
            await counted(replica, failed=failures)
            await next_turn(opened, call_id)
    replica.reconciler.schedule(call_id.encode())
    await counted(replica, failed=3, merged=1)

    assert [entry["log_level"] for entry in entries if entry["event"] == "reconciling.failed"] == ["warning"]
    assert (await record(opened.store, call_id))["status"] == "queued"


async def test_a_vapi_in_trouble_is_not_asked_again_before_the_next_turn(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    vapi.refuse_next(503)
    replica.reconciler.schedule(call_id.encode())
    await counted(replica, failed=1)
    assert asked_for(vapi, call_id) == 1


async def test_a_vapi_that_is_not_there_is_no_more_than_a_failure(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    vapi.go_away()
    await replica.read_and_schedule(UNKNOWN)
    await counted(replica, failed=1)
    assert await opened.store.find(UNKNOWN.encode()) is None


async def test_a_request_that_hangs_keeps_no_other_call_waiting(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    vapi.hang_next()
    await replica.read_and_schedule(UNKNOWN)

    async def hangs() -> bool:
        return asked_for(vapi, UNKNOWN) == 1

    await eventually(hangs)
    other_id = vapi.add_call()
    await replica.read_and_schedule(other_id)
    await counted(replica, merged=1)


async def test_a_request_is_given_up_before_its_lease_ends(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    vapi.hang_next()
    vapi.hang_next()
    await replica.read_and_schedule(UNKNOWN)

    async def is_given_up() -> bool:
        return replica.results() == {"failed": 1}

    await eventually(is_given_up)


async def test_who_asks_too_often_rests(vapi: FakeVapi, opened: OpenedStore) -> None:
    slow = OpenedStore("memory://", {**vapi.settings, "RECONCILE_PER_SECOND": "1"})
    async with OneReplica(slow) as replica:
        vapi.refuse_next(429, "Slow down.")
        await replica.read_and_schedule(UNKNOWN)
        await counted(replica, failed=1)
        await slow.redis.delete(slow.keys.next_turn)
        await replica.read_and_schedule(vapi.add_call())
        await asyncio.sleep(0.3)
        assert replica.results() == {"failed": 1}
    await slow.close()


async def test_without_a_free_turn_a_claim_is_given_back(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    call_id = vapi.add_call()
    await opened.redis.set(opened.keys.next_turn, "9" * 16, px=60_000)
    await replica.read_and_schedule(call_id)

    async def is_given_back() -> bool:
        asked: Any = await opened.redis.hget(opened.keys.call(call_id.encode()), "asked")
        return asked is not None and bool(asked.startswith(b"unknown 0 "))

    await eventually(is_given_back)
    assert vapi.requests == []
    await next_turn(opened, call_id)

    async def is_found() -> bool:
        replica.reconciler.schedule(call_id.encode())
        return replica.results() == {"merged": 1}

    await eventually(is_found)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id":7}', b'{"message":{"call":{}}}', b"\xff", b"[" * 2000])
async def test_an_answer_that_is_no_call_changes_nothing(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica, answer: bytes
) -> None:
    vapi.answer_next(200, answer)
    await replica.read_and_schedule(UNKNOWN)
    await counted(replica, failed=1)
    assert await opened.store.find(UNKNOWN.encode()) is None


async def test_an_answer_about_another_call_changes_neither(
    vapi: FakeVapi, opened: OpenedStore, replica: OneReplica
) -> None:
    other_id = vapi.add_call()
    vapi.answer_next(200, json.dumps(vapi.calls[other_id]).encode())
    await replica.read_and_schedule(UNKNOWN)
    await counted(replica, failed=1)
    assert await opened.store.find(UNKNOWN.encode()) is None
    assert await opened.store.find(other_id.encode()) is None


async def test_what_nobody_foresaw_ends_no_worker(vapi: FakeVapi, replica: OneReplica) -> None:
    with structlog.testing.capture_logs() as entries:
        for number in range(replica.reconciler.workers):
            replica.reconciler.schedule(b"no utf-8 \xff %d" % number)
        await replica.read_and_schedule(vapi.add_call())
        await counted(replica, merged=1)
    assert "reconciling.broke" in [entry["event"] for entry in entries]


async def test_redis_goes_away_and_comes_back(vapi: FakeVapi, own_redis: RedisProcess) -> None:
    opened = OpenedStore(own_redis.url, {**vapi.settings, "STORE_TIMEOUT_S": "1.2"})
    call_id = vapi.add_call()
    async with OneReplica(opened) as replica:
        own_redis.kill()
        for number in range(2 * replica.reconciler.workers):
            replica.reconciler.schedule(b"call-%d" % number)
        with structlog.testing.capture_logs() as told:
            await eventually(lambda: [line["event"] for line in told].count("reconciling.waits_for_redis") >= 2)
        await asyncio.to_thread(own_redis.start)

        async def is_found() -> bool:
            replica.reconciler.schedule(call_id.encode())
            return replica.results().get("merged") == 1

        await eventually(is_found)
    await opened.close()
