"""The bounded queue of commands to be written to Redis. Each waits until its request's time is up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from service.redis_client.command import Command

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""As much as the bodies of webhooks in flight may hold (api/limits.py). Beyond that a command is refused at once: it
would not be written in time, and a slow Redis would let the queue grow without bound."""

COMMAND_BYTES: Final = 4096
"""Memory of a waiting command beside its own bytes: its arguments, futures, and the request's task. So 16,000 small
commands may wait, about as many as we can answer before their deadlines."""

USUAL_BATCH: Final = 16
"""Commands per write: enough to share its cost, few enough that Redis has replies for us while it still has work."""

MAX_BATCH: Final = 256
"""For more commands than the connections take: with 300 ms to a reply, batches of 16 on four connections carry
213 commands a second, and batches of 256 carry 3,400."""

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""A third of a second at 100 Mbit/s: a larger write would not be answered within one attempt."""

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


class CommandQueue:
    """The queue from which the connections of one pipeline take their batches."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._waiting: deque[Command] = deque()
        self._bytes = 0
        self._shared: dict[object, Command] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def find_shared(self, coalesce_key: object) -> Command | None:
        """The queued command with that key; None if it was taken already, or there is none."""
        return self._shared.get(coalesce_key)

    def put(self, command: Command) -> int:
        """Queue a command; returns how many wait now, 0 if there is no room. An empty queue takes any command."""
        waiting = self._waiting
        size = len(command.packed) + COMMAND_BYTES
        if self._bytes + size > MAX_QUEUED_BYTES and waiting:
            return 0
        self._bytes += size
        waiting.append(command)
        if command.coalesce_key is not None:
            self._shared[command.coalesce_key] = command
        return len(waiting)

    def take(self, at_most: int) -> list[Command]:
        """The next batch: USUAL_BATCH commands, or an equal share of the queue up to ``at_most`` if that is more."""
        waiting, shared = self._waiting, self._shared
        room = max(USUAL_BATCH, min(at_most, len(waiting) // self._connections))
        batch: list[Command] = []
        size = 0
        while waiting and room and size < MAX_BATCH_BYTES:
            command = waiting.popleft()
            if command.coalesce_key is not None:
                shared.pop(command.coalesce_key, None)
            size += len(command.packed)
            batch.append(command)
            room -= 1
        self._bytes -= size + COMMAND_BYTES * len(batch)
        return batch

    def expire(self, now: float, responsive_s: float, cause: Exception) -> None:
        """Fail late waiters, and drop the commands that have no waiter left."""
        for command in self._waiting:
            command.expire(now, responsive_s, cause)
        dropped = [command for command in self._waiting if command.is_done]
        if not dropped:
            return
        self._waiting = deque(command for command in self._waiting if not command.is_done)
        for command in dropped:
            self._bytes -= len(command.packed) + COMMAND_BYTES
            if command.coalesce_key is not None:
                self._shared.pop(command.coalesce_key, None)

    def fail_all(self, error: Exception) -> None:
        while self._waiting:
            for command in self.take(MAX_BATCH):
                command.fail(error)
