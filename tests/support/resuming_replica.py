"""One replica's part in resuming executions, on a store and a Kestra of the test's."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from service.jobs.resumer import TRY_WITHIN_S, Resumer
from service.jobs.sweep import Sweep
from service.kestra.client import KestraClient
from service.lifespan import repeat
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.redis_clock import RedisClock
from service.store.subscriptions import LEASE_MS, SubscriptionStore
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.kestra_execution import FakeExecution
from tests.support.opened_store import OpenedStore

SWEEP_EVERY_S = 0.5
"""Oftener than the service does, so that the tests need not wait. The embedded store would be busy with ten a second."""


class OneReplica:
    """It resumes as long as the block lasts."""

    def __init__(
        self,
        opened: OpenedStore,
        *,
        lease_ms: int = LEASE_MS,
        try_within_s: float = TRY_WITHIN_S,
        sweeps: bool = True,
    ) -> None:
        store = SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=lease_ms)
        self.results: Counter[str] = Counter()
        self._kestra = KestraClient(opened.settings)
        self.resumer = Resumer(store, self._kestra, self._count, try_within_s=try_within_s)
        self.calls = CallStore(
            opened.settings, opened.pipeline, opened.keys, on_due=lambda bucket, _: self.resumer.wake(bucket)
        )
        self.sweep = Sweep(self.calls, Changes(opened.connect, opened.keys.changes), RedisClock(), lambda _: None)
        self._sweeps = sweeps
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks.append(asyncio.create_task(repeat(self.resumer.try_due, 0.0)))
        if self._sweeps:
            self._tasks.append(asyncio.create_task(repeat(self.sweep.sweep, SWEEP_EVERY_S)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.resumer.close()
        await self._kestra.close()

    async def until_counted(self, **counts: int) -> None:
        """Return when it has counted so many of each."""

        async def are_reached() -> bool:
            return all(self.results[result] == count for result, count in counts.items())

        await eventually(are_reached)

    def _count(self, result: str) -> None:
        self.results[result] += 1


def paused_execution(kestra: FakeKestra, execution_id: str = "execution") -> FakeExecution:
    """One that waits to be resumed."""
    execution = FakeExecution(execution_id, "ai_concierge", "wait_pause_resume", {"call_id": "call-1"}, {})
    execution.pause()
    kestra.executions[execution_id] = execution
    return execution


def resumes_sent(kestra: FakeKestra) -> int:
    return sum(request.path.endswith("/resume") for request in kestra.requests)
