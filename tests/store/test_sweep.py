"""The sweep finds what notifications missed, and ends the grace of reports that did not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest

from service.calls.stored_call import StoredCall
from service.errors import StoreUnavailableError
from service.jobs.sweep import SWEEP_EVERY_S, Sweep
from service.lifespan import repeat
from service.metrics.process import Metrics
from service.store.changes import Changes
from service.store.redis_clock import RedisClock
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import change, change_from, is_woken, until_taken
from tests.support.vapi_sender import status_update

LOST_AT_MOST_S: Final = 2.0
"""The contract's bound for a lost notification. It is kept by looking that often."""

Sweeping = Callable[[OpenedStore], tuple[Sweep, Changes, Metrics]]


@pytest.fixture
async def sweeping() -> AsyncIterator[Sweeping]:
    """Starts sweeps beside a listener that hears nothing: every notification is lost."""
    tasks: list[asyncio.Task[None]] = []

    def start(opened: OpenedStore) -> tuple[Sweep, Changes, Metrics]:
        changes, metrics = Changes(opened.connect, opened.keys.changes), Metrics()
        sweep = Sweep(opened.store, changes, RedisClock(), metrics.merged)
        tasks.append(asyncio.create_task(repeat(sweep.sweep, SWEEP_EVERY_S)))
        return sweep, changes, metrics

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_lost_notifications_are_found_by_the_sweep(opened: OpenedStore, sweeping: Sweeping) -> None:
    sweep, changes, _ = sweeping(opened)
    with changes.watch(b"merged") as merged, changes.watch(b"deleted") as deleted, changes.watch(b"other") as other:
        await sweep.sweep()
        await opened.store.merge(change("merged"))
        await opened.store.delete(b"deleted")

        assert await is_woken(merged)
        assert await is_woken(deleted)
        assert not await is_woken(other, within_s=0.01)
    assert SWEEP_EVERY_S < LOST_AT_MOST_S


async def test_the_sweep_ends_the_grace_of_reports_that_did_not_come_and_counts_once(
    open_store: OpenStore, sweeping: Sweeping
) -> None:
    opened = await open_store(REPORT_GRACE_S=0.05)
    processes = [sweeping(opened) for _ in range(2)]
    await opened.store.merge(change_from(status_update("ended", endedReason="assistant-ended-call")))

    async def is_failed() -> bool:
        call = await opened.store.find(b"call-1")
        return isinstance(call, StoredCall) and call.data_status == 3

    await eventually(is_failed)
    for sweep, _, _ in processes:
        await sweep.sweep()
    assert sum(metrics.sums()["calls.ended"] for _, _, metrics in processes) == 1


async def test_the_sweep_survives_an_outage_and_knows_redis_clock_after_it(
    open_on: OpenStore, own_redis: RedisProcess, sweeping: Sweeping
) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    own_redis.kill()
    sweep, changes, _ = sweeping(opened)
    with changes.watch(b"call-1") as watch:
        await eventually(lambda: _is_away(opened))
        await asyncio.to_thread(own_redis.start)
        await eventually(lambda: _is_served(opened))
        await eventually(lambda: _has_swept(sweep))
        await until_taken(opened.store, change(status=1))

        assert await is_woken(watch)
    seconds, _ = await opened.redis.time()
    assert abs(sweep.clock.now_ms() - seconds * 1000) < 5_000


async def _is_away(opened: OpenedStore) -> bool:
    return not await _is_served(opened)


async def _is_served(opened: OpenedStore) -> bool:
    try:
        await opened.pipeline.execute(b"PING")
    except StoreUnavailableError:
        return False
    return True


async def _has_swept(sweep: Sweep) -> bool:
    await sweep.sweep()
    return not sweep.missing_buckets and not sweep._scans
