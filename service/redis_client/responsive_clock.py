"""A clock for deadlines that a busy event loop must not break.

LoopTolerantTimeout does the same for one attempt of a batch. This clock serves all waiting commands, which so need no
timer each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

TICK_S: Final = 0.025
"""How often deadlines are checked while a command waits."""

TURNS: Final = 3
"""Turns of the event loop: uvloop needs one before it reads, one to read, and one to run the tasks that waited."""

BUSY_S: Final = 0.005
"""Three turns of an idle loop take 0.1 ms. A turn that handles a large batch of replies takes 20 ms."""

BUSY_SHARE: Final = 0.5
"""Share of a busy tick that counts. A loop that is always a little busy still answers within twice the time. A loop
that is blocked for a second has no ticks meanwhile, so none of that second counts."""


class ResponsiveClock:
    """Time that passes more slowly while the event loop is busy, and not at all while it is blocked.

    A loop that was busy for a second finds deadlines and replies due together, and commands that it never wrote. Redis
    was not slow then, so that second must not count against it. Every TICK_S the clock lets the loop take a few turns,
    in which arrived replies are read and handled. The loop kept up if these turns took less than BUSY_S.
    """

    def __init__(self, on_tick: Callable[[], bool]) -> None:
        self.now_s = 0.0
        self._on_tick = on_tick
        """Returns whether the clock must go on."""
        self.is_going = False
        self._began_turns_at = 0.0

    def go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the clock. Call it only while the clock is not going."""
        self.is_going = True
        loop.call_later(TICK_S, self._take_turns, loop, TURNS)

    def _take_turns(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        now = time.monotonic()
        if left == TURNS:
            self._began_turns_at = now
        if left:
            loop.call_soon(self._take_turns, loop, left - 1)
            return
        self.now_s += TICK_S if now - self._began_turns_at < BUSY_S else TICK_S * BUSY_SHARE
        self.is_going = False
        if self._on_tick():
            self.go(loop)
