"""One connection to Redis with one batch of commands under way at most."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from service.store.command import Arguments, Command, refused, unavailable
from service.store.command_queue import LARGEST_BATCH, MAX_BATCH, CommandQueue
from service.store.link import Link, open_link

log = structlog.get_logger(__name__)

RETRY_PAUSE_S: Final = 0.05

STEPS: Final = 4
"""In which the time of an attempt is counted."""

WAIT_SHARE: Final = 0.8
"""Of the time of one attempt, what replicas may take to confirm."""

LARGER_WITHIN: Final = 0.7
"""A batch may be twice as large after one that took less than this share of an attempt, else half as large: a Redis
that needs long for each command must answer a whole batch within one attempt, or the batch is sent again for nothing."""


class Lane:
    """Takes what is queued, batch by batch, and sees to it that every command gets a reply or an error."""

    def __init__(
        self,
        connection: AbstractConnection,
        queue: CommandQueue,
        *,
        attempt_s: float,
        wait_replicas: int,
        is_patient: bool,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._batch: list[Command] = []
        self._largest_batch = LARGEST_BATCH
        self._attempt_s = attempt_s
        self._wait = b""
        if wait_replicas:
            wait: Arguments = ("WAIT", wait_replicas, int(attempt_s * 1000 * WAIT_SHARE))
            self._wait = hiredis.pack_command(wait)
        self._wait_replicas = wait_replicas
        self._is_patient = is_patient
        self._link: Link | None = None
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self.trouble: Exception | None = None
        """Why the last attempt failed; None after one that did not."""

    @property
    def is_idle(self) -> bool:
        return self._idle is not None and not self._idle.done()

    def wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    @property
    def has_batch(self) -> bool:
        return bool(self._batch)

    def expire(self, now: float, responsive_s: float) -> None:
        """Fail the commands of the batch under way whose time is up; their replies are still awaited, and ignored."""
        cause = self.trouble or TimeoutError("no answer in time")
        for command in self._batch:
            command.expire(now, responsive_s, cause)

    def start(self, name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    async def close(self) -> None:
        """Finish the batch under way, then stop."""
        self._is_closing = True
        self.wake()
        if self._task is not None:
            await self._task
        await self._disconnect()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._connect_ahead()
        while not self._is_closing:
            if not self._queue:
                self._idle = loop.create_future()
                await self._idle
                continue
            batch = self._batch = self._queue.take(self._largest_batch)
            try:
                await self._exchange(batch)
            except Exception as exc:
                # A lane must outlive what nobody foresaw: without it every request would wait for ever.
                log.exception("lane.failed")
                _fail_all(batch, exc)
                await self._disconnect()
            self._batch = batch = []  # an idle lane must not keep the last records

    async def _connect_ahead(self) -> None:
        """So that a burst finds every lane connected: to connect while thousands wait may take too long for them."""
        with suppress(Exception):  # the first batch meets whatever it is, and says so
            async with OnTime(self._attempt_s):
                self._link = await open_link(self._connection)

    async def _exchange(self, batch: list[Command]) -> None:
        """Get every command of the batch a reply or an error, over as many connections as that takes."""
        loop = asyncio.get_running_loop()
        while batch := [command for command in batch if not command.is_settled]:
            started = loop.time()
            try:
                async with OnTime(self._attempt_s):
                    batch = await self._attempt(batch)
            except (RedisError, OSError, TimeoutError) as exc:
                self.trouble = exc if str(exc) else TimeoutError("no answer in time")
                self._largest_batch = MAX_BATCH
                await self._disconnect()
                if not self._is_patient:
                    _fail_all(batch, self.trouble)
                    return
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                self.trouble = None
                self._adapt(loop.time() - started)

    def _adapt(self, took_s: float) -> None:
        """Choose the largest next batch by what the last one took."""
        if took_s > LARGER_WITHIN * self._attempt_s:
            self._largest_batch = max(MAX_BATCH, self._largest_batch // 2)
        elif self._queue:
            self._largest_batch = min(LARGEST_BATCH, self._largest_batch * 2)

    async def _attempt(self, batch: list[Command]) -> list[Command]:
        """Send the batch and read its replies; returns the commands that must be sent again, in another form."""
        if self._link is None or self._link.is_lost:
            await self._disconnect()
            self._link = await open_link(self._connection)
        is_confirmed = bool(self._wait) and any(command.is_durable for command in batch)
        packed = b"".join([command.packed for command in batch])
        count = len(batch) + sum(command.is_asking for command in batch)
        arrived = await self._link.exchange(packed + self._wait if is_confirmed else packed, count + is_confirmed)
        confirmed = _confirmed(arrived.pop()) if is_confirmed else 0
        replies = _replies_to(batch, arrived)
        again: list[Command] = []
        for command, reply in replies:
            if isinstance(reply, NoScriptError) and command.script is not None:
                command.send_script()
                again.append(command)
            elif isinstance(reply, ResponseError):
                _settle_error(command, reply)
            elif is_confirmed and command.is_durable and confirmed < self._wait_replicas:
                command.fail(unavailable(ConnectionError(f"{confirmed} of {self._wait_replicas} replicas confirmed")))
            else:
                command.resolve(reply)
        for _, reply in replies:
            if isinstance(reply, ReadOnlyError):
                # A demoted master: raising drops the connection, and the next one looks for the master anew.
                raise reply
        return again

    async def _disconnect(self) -> None:
        """Without waiting for the end: it is the link that would hear of it."""
        self._link = None
        await self._connection.disconnect(nowait=True)


class OnTime:
    """``async with``: raises TimeoutError at the end of that time, as far as the event loop kept up with it.

    A loop that was busy for a second finds timers and replies due together, and would hold a Redis for hung that had
    answered long ago. So the time is counted in steps, and between two steps there is always a look for replies.
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
            self._timer = None  # or this would be a cycle, left to the garbage collector with every batch
        await self._limit.__aexit__(kind, error, trace)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps:
            self._timer = self._loop.call_later(self._step_s, self._step)
        else:
            self._limit.reschedule(self._loop.time())


def _replies_to(batch: list[Command], arrived: list[Any]) -> list[tuple[Command, Any]]:
    """Each command with its reply; that to an ASKING before it is passed over."""
    replies = iter(arrived)
    pairs: list[tuple[Command, Any]] = []
    for command in batch:
        if command.is_asking:
            next(replies)
        pairs.append((command, next(replies)))
    return pairs


def _confirmed(reply: Any) -> int:
    """How many replicas have what was written."""
    if isinstance(reply, ResponseError):
        raise reply
    return int(reply)


def _settle_error(command: Command, error: ResponseError) -> None:
    if isinstance(error, MovedError | AskError | NoScriptError):
        command.fail(error)
    elif not isinstance(error, ReadOnlyError):
        command.fail(refused(error))


def _fail_all(batch: list[Command], error: Exception) -> None:
    for command in batch:
        if not command.is_settled:
            command.fail(unavailable(error))
