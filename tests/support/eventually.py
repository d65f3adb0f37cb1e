"""How a test waits: it asks again and again until a condition holds, under a limit that only a failure reaches."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE_S: Final = 60.0
"""How long a test waits for what should come within a second or two. It only ends a test that fails: a machine that
runs several copies of the suite may need some seconds."""

SHORTEST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 0.25


def pause_s(waited_s: float) -> float:
    """Between two looks: a tenth of what was waited so far. To look every 10 ms for seconds costs half a core."""
    return min(max(waited_s / 10, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


async def eventually(holds: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it did not hold in time, or one look at it did not end in time.
    """
    began_at = time.monotonic()
    async with asyncio.timeout(within_s):
        while not await _answer(holds):  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(pause_s(time.monotonic() - began_at))


def eventually_sync(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """The same for a test that has no event loop."""
    began_at = time.monotonic()
    while not holds():
        waited_s = time.monotonic() - began_at
        if waited_s > within_s:
            raise TimeoutError("it did not come to hold in time")
        time.sleep(pause_s(waited_s))


async def _answer(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = holds()
    return await answer if inspect.isawaitable(answer) else answer
