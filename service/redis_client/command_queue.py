"""The bounded queue of commands to be written to Redis. Each waits until its request's time is up."""

from __future__ import annotations

from collections import deque
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

    def fail_late(self, now: float, responsive_s: float, cause: Exception) -> None:
        """Fail late waiters, and drop the commands that have no waiter left."""
        for command in self._waiting:
            command.fail_late(now, responsive_s, cause)
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
