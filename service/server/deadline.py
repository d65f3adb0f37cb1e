"""The one timer of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from service.server.request_cycle import HeldFlow

SOONEST_S: Final = 0.05


class Deadline:
    """Reports when a connection is past its deadline. Aborts a connection whose client does not read its answer.

    Setting a deadline only changes a number, so requests start no timers. One timer compares it with the clock every
    ``check_every_s``. A deadline must be at least that far away when it is set, so that it is noticed in time.

    Args:
        flow: it counts what streams add to the bytes that wait for the client.
        untaken_s: how long a client may read nothing of an answer that waits for it.
        on_late: called after the deadline has passed, repeatedly until the connection is closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.WriteTransport,
        flow: HeldFlow,
        on_late: Callable[[], None],
        *,
        check_every_s: float,
        untaken_s: float,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_late: Callable[[], None] | None = on_late
        self._check_every_s = check_every_s
        self._at = inf
        self._flow = flow
        self._untaken_s = untaken_s
        self._taken_bytes, self._taken_at = 0, 0.0
        self._timer = loop.call_later(check_every_s, self._check)

    def set(self, seconds: float) -> None:
        self._at = self._loop.time() + seconds

    def clear(self) -> None:
        """Remove the deadline, while the application works on a request."""
        self._at = inf

    def cancel(self) -> None:
        self._timer.cancel()
        self._on_late = None

    def _check(self) -> None:
        now = self._loop.time()
        untaken_bytes = self._transport.get_write_buffer_size()
        taken_bytes = self._flow.streamed_bytes - untaken_bytes
        if taken_bytes != self._taken_bytes or untaken_bytes == 0:
            self._taken_bytes, self._taken_at = taken_bytes, now
        if now - self._taken_at >= self._untaken_s:
            self._transport.abort()
        elif now >= self._at and self._on_late is not None:
            self._on_late()
        left_s = min(self._at, self._taken_at + self._untaken_s) - now
        self._timer = self._loop.call_later(max(SOONEST_S, min(left_s, self._check_every_s)), self._check)
