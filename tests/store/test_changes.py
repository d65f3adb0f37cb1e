"""Parked polls are woken by one subscription per process, which survives what happens to Redis."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.store.changes import HEARTBEAT_S, RECONNECT_PAUSE_S, WAKES_AT_ONCE, Changes
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.opened_store import AnswerWith, OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import WOKEN_WITHIN_S, change, change_from, in_seconds, is_woken
from tests.support.vapi_sender import full_report, status_update

Listen = Callable[[OpenedStore], Coroutine[Any, Any, Changes]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts listeners and waits for their subscription; all are closed after the test."""
    started: list[Changes] = []

    async def start(opened: OpenedStore) -> Changes:
        changes = Changes(opened.connect, opened.keys.changes)
        changes.start()
        started.append(changes)
        await _subscribed(changes)
        return changes

    yield start
    for changes in started:
        await changes.close()
        assert not changes.is_subscribed


async def _subscribed(changes: Changes, *, is_subscribed: bool = True) -> None:
    async def is_so() -> bool:
        return changes.is_subscribed == is_subscribed

    await eventually(is_so)


async def test_a_change_wakes_who_waits_for_that_call_and_nobody_else(opened: OpenedStore, listen: Listen) -> None:
    changes = await listen(opened)
    with changes.watch(b"call-1") as one, changes.watch(b"call-1") as two, changes.watch(b"call-2") as other:
        assert changes.has_parked
        await opened.store.merge(change(status=1))

        assert await is_woken(one)
        assert await is_woken(two)
        assert not await is_woken(other, within_s=0.05)
    assert not changes.has_parked


async def test_a_change_before_the_wait_is_not_lost(opened: OpenedStore, listen: Listen) -> None:
    changes = await listen(opened)
    with changes.watch(b"call-1") as early, changes.watch(b"call-1") as late:
        await opened.store.merge(change(status=1))
        assert await is_woken(early)

        await asyncio.wait_for(late.wait_until(in_seconds()), WOKEN_WITHIN_S)
        assert not await is_woken(late, within_s=0.05)


@pytest.mark.parametrize("event", ["delete", "settle"])
async def test_a_deletion_and_the_end_of_the_grace_wake_too(open_store: OpenStore, listen: Listen, event: str) -> None:
    opened = await open_store(REPORT_GRACE_S=0.01)
    changes = await listen(opened)
    with changes.watch(b"call-1") as watch:
        await opened.store.merge(change_from(status_update("ended")))
        assert await is_woken(watch)
        if event == "delete":
            await opened.store.delete(b"call-1")
        else:

            async def is_expired() -> bool:
                return (await opened.store.expire_grace(b"call-1")).is_changed

            await eventually(is_expired)

        assert await is_woken(watch)


@pytest.mark.parametrize("turns", range(12))
async def test_a_notification_that_comes_with_the_end_does_not_prevent_it(opened: OpenedStore, turns: int) -> None:
    """Whatever the turn of the loop in which it comes. fakeredis reads with ``asyncio.wait_for``, which then stayed."""
    changes = Changes(opened.connect, opened.keys.changes)
    changes.start()
    await _subscribed(changes)
    merging = asyncio.create_task(opened.store.merge(change(status=1)))
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await changes.close()
    await merging


async def test_what_changes_nothing_wakes_nobody(opened: OpenedStore, listen: Listen) -> None:
    changes = await listen(opened)
    with changes.watch(b"call-1") as watch, changes.watch(b"call-2") as end:
        await opened.store.merge(change_from(full_report()))
        assert await is_woken(watch)
        await opened.store.merge(change_from(full_report()))
        await opened.store.merge(change("call-2"))

        assert await is_woken(end)
        assert not await is_woken(watch, within_s=0.01)


async def test_a_wait_ends_at_its_deadline(opened: OpenedStore) -> None:
    changes = Changes(opened.connect, opened.keys.changes)
    with changes.watch(b"call-1") as watch:
        async with asyncio.timeout(WOKEN_WITHIN_S):
            await watch.wait_until(in_seconds(0.01))


async def test_all_who_wait_can_be_woken_at_once(opened: OpenedStore) -> None:
    changes = Changes(opened.connect, opened.keys.changes)
    with changes.watch(b"call-1") as one, changes.watch(b"call-2") as two:
        waits = [asyncio.create_task(watch.wait_until(in_seconds())) for watch in (one, two)]
        await asyncio.sleep(0)
        changes.wake_all()

        await asyncio.wait_for(asyncio.gather(*waits), WOKEN_WITHIN_S)


async def test_a_listener_that_never_started_closes(opened: OpenedStore) -> None:
    await Changes(opened.connect, opened.keys.changes).close()


async def test_after_a_restart_the_subscription_comes_back(
    open_on: OpenStore, own_redis: RedisProcess, listen: Listen
) -> None:
    opened = await open_on()
    changes = await listen(opened)
    own_redis.kill()
    await _subscribed(changes, is_subscribed=False)
    await asyncio.to_thread(own_redis.start)
    await _subscribed(changes)

    with changes.watch(b"call-1") as watch:
        await opened.store.merge(change(status=1))
        assert await is_woken(watch)


async def test_a_loss_is_told_once_however_long_it_lasts(
    open_on: OpenStore, own_redis: RedisProcess, listen: Listen
) -> None:
    changes = await listen(await open_on())
    with capture_logs() as told:
        own_redis.kill()
        await _subscribed(changes, is_subscribed=False)
        await asyncio.sleep(4 * RECONNECT_PAUSE_S)

    assert [line["event"] for line in told] == ["notifications.lost"]


@pytest.mark.parametrize("redis_url", ["memory://"])
async def test_a_subscription_outlives_its_heartbeats(opened: OpenedStore, listen: Listen) -> None:
    changes = await listen(opened)
    await asyncio.sleep(HEARTBEAT_S + 0.2)

    assert changes.is_subscribed
    with changes.watch(b"call-1") as watch:
        await opened.store.merge(change(status=1))
        assert await is_woken(watch)


async def test_a_subscription_to_a_hung_redis_is_given_up_and_opened_anew(
    open_on: OpenStore, own_redis: RedisProcess, listen: Listen
) -> None:
    opened = await open_on()
    changes = await listen(opened)
    own_redis.pause()
    await _subscribed(changes, is_subscribed=False)
    own_redis.resume()
    await _subscribed(changes)

    with changes.watch(b"call-1") as watch:
        await opened.store.merge(change(status=1))
        assert await is_woken(watch)


async def test_a_subscription_that_nobody_confirmed_is_none(answer_with: AnswerWith) -> None:
    server = OpenedStore(f"redis://127.0.0.1:{await answer_with(b'')}/0", {})
    changes = Changes(server.connect, server.keys.changes)
    changes.start()
    await asyncio.sleep(HEARTBEAT_S + 0.2)

    assert not changes.is_subscribed
    await changes.close()
    await server.close()


async def test_thousands_who_wait_for_one_call_are_woken_with_room_for_others_between(opened: OpenedStore) -> None:
    changes, woken = Changes(opened.connect, opened.keys.changes), 0

    async def wait() -> None:
        nonlocal woken
        with changes.watch(b"call-1") as watch:
            await watch.wait_until(math.inf)
            woken += 1

    waiting = [asyncio.create_task(wait()) for _ in range(2000)]
    await asyncio.sleep(0)
    changes.wake(b"call-1")
    steps = [0]
    while woken < len(waiting):
        await asyncio.sleep(0.001)
        steps.append(woken)
    await asyncio.gather(*waiting)
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 2 * WAKES_AT_ONCE
