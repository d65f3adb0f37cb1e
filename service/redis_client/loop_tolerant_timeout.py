"""A timeout that does not fire because the event loop was busy."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

STEPS: Final = 4
"""Slices of the timeout; see LoopTolerantTimeout."""


class LoopTolerantTimeout:
    """``async with``: raises TimeoutError after ``within_s``, not counting time for which the event loop was blocked.

    A loop that was busy for a second finds timers and replies due together. A plain timeout would then fire although
    Redis answered long ago. So the time is counted in steps, and between two steps the loop always reads replies.
    """

    __slots__ = ("_limit", "_loop", "_step_s", "_steps", "_timer")

    def __init__(self, within_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._step_s = within_s / STEPS
        self._steps = STEPS
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._step_s, self._step)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # breaks a reference cycle, which every batch would leave
        await self._limit.__aexit__(kind, error, trace)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps:
            self._timer = self._loop.call_later(self._step_s, self._step)
        else:
            self._limit.reschedule(self._loop.time())
