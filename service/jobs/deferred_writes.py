"""Writes to Redis that no request should wait for: tried at once, then repeated in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from service.errors import StoreRefusedError, StoreUnavailableError

log = structlog.get_logger(__name__)

TRY_EVERY_S: Final = 0.5

TRIES: Final = 120
"""A minute or more: Redis fails over in seconds, and restarts from its log in some tens of seconds."""

MAX_WAITING: Final = 1000
"""Each holds the data of one placed call, about 1 kB."""

Write = Callable[[], Awaitable[object]]


class DeferredWrites:
    """Makes writes that are safe to repeat. A failure is logged and not raised."""

    def __init__(self, *, try_every_s: float = TRY_EVERY_S, tries: int = TRIES, max_waiting: int = MAX_WAITING) -> None:
        self._try_every_s = try_every_s
        self._tries = tries
        self._max_waiting = max_waiting
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, what: str, work: Write) -> None:
        """Write now, or later if Redis is away. ``what`` names the write in the logs."""
        try:
            await work()
        except StoreRefusedError:
            log.exception("write.refused", what=what)
        except StoreUnavailableError:
            self.write_later(what, work)

    def write_later(self, what: str, work: Write) -> None:
        if len(self._tasks) >= self._max_waiting:
            log.error("write.given_up", what=what, reason="too many wait")
            return
        task = asyncio.get_running_loop().create_task(self._repeat(what, work), name=f"deferred-{what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up the writes that still wait."""
        waiting = list(self._tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if waiting:
            log.error("write.given_up", count=len(waiting), reason="the service stops")

    async def _repeat(self, what: str, work: Write) -> None:
        for _ in range(self._tries):
            await asyncio.sleep(self._try_every_s)
            try:
                await work()
            except StoreRefusedError:
                break
            except StoreUnavailableError:
                continue
            except Exception:
                log.exception("write.failed", what=what)
                return
            log.info("write.caught_up", what=what)
            return
        log.error("write.given_up", what=what, reason="Redis does not take it")
