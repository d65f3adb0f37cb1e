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

ASK_EVERY_S: Final = 0.02


async def eventually(holds: Callable[[], bool | Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds.

    Raises:
        TimeoutError: it did not hold in time, or one look at it did not end in time.
    """
    async with asyncio.timeout(within_s):
        while not await _answer(holds):  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(ASK_EVERY_S)


def eventually_sync(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """The same for a test that has no event loop."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come to hold in time")
        time.sleep(ASK_EVERY_S)


async def _answer(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = holds()
    return await answer if inspect.isawaitable(answer) else answer
