"""One replica's reconciler with all that it needs, on a store and a VAPI of the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from service.calls.stored_call import StoredCall, Tombstone
from service.jobs.late_refresh import WORKERS, LateRefresh
from service.jobs.reconciler import Reconciler
from service.jobs.sweep import Sweep
from service.metrics.process import Metrics
from service.store.changes import Changes
from service.store.reconcile_leases import ReconcileLeases
from service.store.redis_clock import RedisClock
from service.vapi.client import VapiClient
from tests.support.fake_vapi import FakeVapi
from tests.support.opened_store import OpenedStore
from tests.support.passing_time import let_pass


class OneReplica:
    """Its reconciler works as long as the block lasts."""

    def __init__(self, opened: OpenedStore) -> None:
        self._opened = opened
        self._metrics = Metrics()
        self._vapi = VapiClient(opened.settings)
        asking = ReconcileLeases(opened.settings, opened.pipeline, opened.keys)
        self.reconciler = Reconciler(
            opened.settings,
            self._vapi,
            opened.store,
            asking,
            lambda: round(time.time() * 1000),
            on_merged=self._metrics.merged,
            on_result=self._metrics.reconciled,
        )
        self.late_refresh = LateRefresh(self.reconciler, opened.store, asking, on_result=self._metrics.refreshed)
        self.sweep = Sweep(
            opened.store, Changes(opened.connect, opened.keys.changes), RedisClock(), self._metrics.merged
        )
        self.sweep.on_refreshable = self.late_refresh.schedule
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._vapi.close)
        for _ in range(self.reconciler.workers):
            worker = asyncio.create_task(self.reconciler.work())
            self._stack.push_async_callback(ended, worker)
        for _ in range(WORKERS):
            self._stack.push_async_callback(ended, asyncio.create_task(self.late_refresh.work()))
        self._stack.push_async_callback(self.sweep.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def results(self) -> dict[str, int]:
        """What came of asking so far, by result."""
        sums = self._metrics.sums()
        return {name.removeprefix("reconciled."): count for name, count in sums.items() if name[:11] == "reconciled."}

    def refreshes(self) -> dict[str, int]:
        """What came of late refreshes so far, by result."""
        sums = self._metrics.sums()
        return {name.removeprefix("refreshed."): count for name, count in sums.items() if name[:10] == "refreshed."}

    def calls_ended(self) -> int:
        return self._metrics.sums()["calls.ended"]

    async def read_and_schedule(self, call_id: str) -> StoredCall | Tombstone | None:
        """What a poll does."""
        call = await self._opened.store.find(call_id.encode())
        self.reconciler.schedule_if_due(call_id.encode(), call)
        return call


StartReplica = Callable[[], Awaitable[OneReplica]]


async def ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def pass_time(opened: OpenedStore, call_id: str, seconds: float) -> None:
    await let_pass(opened.redis, opened.keys.call(call_id.encode()), seconds)


def asked_for(vapi: FakeVapi, call_id: str) -> int:
    """How often VAPI was asked for that call."""
    return vapi.requests.count(("GET", f"/call/{call_id}"))
