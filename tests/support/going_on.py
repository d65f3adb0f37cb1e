"""What goes on beside a test, such as traffic."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx2


@asynccontextmanager
async def going_on(act: Callable[[int], Awaitable[object]], every_s: float = 0.1) -> AsyncIterator[None]:
    """Act again and again meanwhile, each time with another number. A connection that fails is part of the fault."""

    async def act_for_ever() -> None:
        for number in itertools.count():
            with suppress(httpx2.HTTPError):
                await act(number)
            await asyncio.sleep(every_s)

    acting = asyncio.create_task(act_for_ever())
    try:
        yield
    finally:
        acting.cancel()
        with suppress(asyncio.CancelledError):
            await acting
