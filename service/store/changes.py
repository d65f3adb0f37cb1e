"""Wakes parked polls and event streams: one subscription per process, whatever their number.

A notification may get lost (Redis restarts, the connection breaks). So the sweep asks every 1.5 s which calls changed
and wakes their polls too (jobs/sweep.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.redis_client.replies import NOTHING, arrived_replies

log = structlog.get_logger(__name__)

HEARTBEAT_S: Final = 3.0
"""How often the connection is pinged. It is opened anew after twice this time without an answer."""

LAST_READ_S: Final = 0.1
"""Time to read what arrived while we were busy, before a connection counts as lost."""

RECONNECT_PAUSE_S: Final = 0.2

WAKES_AT_ONCE: Final = 250
"""Of the watches of one call. Each takes 50 us to read and answer: 9,000 that were woken at once blocked webhooks for
0.7 s. Each batch shares one read of the record."""

WAKE_PAUSE_S: Final = 0.025
"""Between two batches: twice what one takes, so most of the time is left to webhooks."""


class Follower(Protocol):
    """Is told of the changes of all calls."""

    def call_changed(self, call_id: bytes) -> None:
        """Called at each notification, and again when a sweep finds the change."""

    def changes_missed(self) -> None:
        """Called when notifications arrive again after they may have been lost."""


class Changes:
    """One process's subscription to changes in the store, and its polls and streams that wait for them."""

    def __init__(self, connect: Callable[[], AbstractConnection], channel: bytes) -> None:
        self._connect = connect
        self._channel = channel
        self._parked: dict[bytes, set[Watch]] = {}
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._answered_at = 0.0
        self._is_closing = False
        self._is_loss_told = False
        self._is_left = asyncio.Event()
        self.follower: Follower | None = None

    @property
    def is_subscribed(self) -> bool:
        return self._connection is not None

    @property
    def has_parked(self) -> bool:
        return bool(self._parked) or self.follower is not None

    def watch(self, call_id: bytes) -> Watch:
        """Enter it before reading the record, so that a change after the read ends the wait."""
        return Watch(self, call_id)

    def wake(self, call_id: bytes) -> None:
        """Wake the polls of a call that changed."""
        if watches := self._parked.get(call_id):
            notified_at = time.perf_counter()
            if len(watches) <= WAKES_AT_ONCE:
                _wake(watches, notified_at)
            else:
                self._wake_in_batches(list(watches), notified_at)
        if self.follower is not None:
            self.follower.call_changed(call_id)

    def _wake_in_batches(self, watches: list[Watch], notified_at: float) -> None:
        _wake(watches[:WAKES_AT_ONCE], notified_at)
        if rest := watches[WAKES_AT_ONCE:]:
            asyncio.get_running_loop().call_later(WAKE_PAUSE_S, self._wake_in_batches, rest, notified_at)

    def wake_all(self) -> None:
        for watches in self._parked.values():
            for watch in watches:
                watch.wake()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="change-listener")

    def leave_server(self) -> None:
        """Subscribe anew: another server is the master now."""
        self._is_left.set()

    async def close(self) -> None:
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def add(self, watch: Watch) -> None:
        self._parked.setdefault(watch.call_id, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        watches = self._parked[watch.call_id]
        watches.discard(watch)
        if not watches:
            del self._parked[watch.call_id]

    async def _run(self) -> None:
        # Not `while True`: on Python 3.11 a group whose child fails while it is cancelled loses the cancellation.
        while not self._is_closing:
            connection = self._connect()
            self._is_left.clear()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(connection))
                    group.create_task(self._keep_alive(connection))
                    group.create_task(self._end_when_left())
            except* (RedisError, OSError, TimeoutError, ValueError) as errors:
                if not self._is_loss_told:
                    log.warning("notifications.lost", error=str(errors.exceptions[0]))
                self._is_loss_told = True
            finally:
                self._connection = None
                await connection.disconnect(nowait=True)
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _listen(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(HEARTBEAT_S):
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command(b"SUBSCRIBE", self._channel)
        self._answered_at = time.monotonic()
        arrived = arrived_replies(connection)
        while True:
            reply: Any = await connection.read_response()
            self._answered_at = time.monotonic()
            while reply is not NOTHING:
                if isinstance(reply, RedisError):
                    raise reply
                if reply[0] == b"message":
                    self.wake(reply[2])
                elif reply[0] == b"subscribe":
                    self._connection = connection
                    self._is_loss_told = False
                    log.info("notifications.subscribed")
                    if self.follower is not None:
                        self.follower.changes_missed()
                reply = arrived()

    async def _end_when_left(self) -> None:
        await self._is_left.wait()
        raise RedisConnectionError("another server became the master")

    async def _keep_alive(self, connection: AbstractConnection) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._is_overdue():
                await asyncio.sleep(LAST_READ_S)  # the reply may be in the socket buffer: let the loop read it
            if self._is_overdue():
                raise TimeoutError("the subscription's connection does not answer")
            if self.is_subscribed:
                await connection.send_command(b"PING")

    def _is_overdue(self) -> bool:
        return time.monotonic() - self._answered_at > 2 * HEARTBEAT_S


class Waiter:
    """Something parked. Whatever may end its wait wakes the same future, so a parked poll costs one future."""

    __slots__ = ("_future", "_is_awake", "notified_at")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._is_awake = False
        self.notified_at: float | None = None
        """When a change was last heard of (``time.perf_counter``), if a change ended the last wait."""

    def wake(self) -> None:
        self._is_awake = True
        self._end_wait()

    def _end_wait(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait_until(self, deadline: float) -> bool:
        """Return True when woken, also if that happened since the last return; False at ``deadline`` (loop time)."""
        if not self._is_awake:
            self.notified_at = None
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_at(deadline, self._end_wait)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        was_woken, self._is_awake = self._is_awake, False
        return was_woken


class Watch(Waiter):
    """One parked poll, or one stream of a call's events."""

    __slots__ = ("_changes", "call_id")

    def __init__(self, changes: Changes, call_id: bytes) -> None:
        super().__init__()
        self._changes = changes
        self.call_id = call_id

    def __enter__(self) -> Self:
        self._changes.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._changes.remove(self)


def _wake(watches: Iterable[Watch], notified_at: float) -> None:
    for watch in watches:
        watch.notified_at = notified_at
        watch.wake()
