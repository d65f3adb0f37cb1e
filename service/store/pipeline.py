"""Coalesces the commands of concurrent requests: what is asked within one turn of the event loop goes out in one write.

Each of the few connections is a lane with one batch under way at most; while it waits for replies, the next batch
collects. A request only ever waits for its command's future: cancelling it touches no connection, so no reply is left
half-read and a write that was begun is finished. All commands that go through here may be repeated without harm,
because a batch is sent again when its connection broke.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from service.errors import StoreRefusedError, StoreUnavailableError

log = structlog.get_logger(__name__)

MAX_BATCH: Final = 64
"""Commands per write: enough to fill a segment, few enough that a small one does not wait for many large ones."""

RETRY_PAUSE_S: Final = 0.05

WAIT_SHARE: Final = 0.8
"""Of the time of one attempt, what replicas may take to confirm."""

Argument = bytes | str | int | float
Arguments = tuple[Any, ...]
"""A command: its name and its arguments, each an Argument; hiredis takes nothing else."""

_ASKING: Final = hiredis.pack_command(("ASKING",))
"""Before a command that a Cluster's ASK redirected."""

_COMMANDS_FAULT: Final = re.compile("WRONGTYPE|unknown command|wrong number of arguments|user_script:[0-9]+: ")
"""In error replies: of a script's own error, Redis names the line before what went wrong."""


class Command:
    """One command and everybody who waits for its reply. ``fallback`` is sent instead when the reply is NOSCRIPT.

    Every waiter has a future of its own: a request that is cancelled takes only its own away.
    """

    __slots__ = ("deadline", "fallback", "is_asking", "is_durable", "is_settled", "packed", "share_as", "waiters")

    def __init__(
        self,
        args: Arguments,
        deadline: float,
        fallback: Arguments | None,
        share_as: object,
        *,
        is_durable: bool,
        is_asking: bool,
    ) -> None:
        self.is_durable = is_durable
        self.is_asking = is_asking
        self.pack(args)
        self.deadline = deadline
        self.fallback = fallback
        self.share_as = share_as
        self.waiters: list[asyncio.Future[Any]] = []
        self.is_settled = False

    def pack(self, args: Arguments) -> None:
        command = hiredis.pack_command(args)
        self.packed = _ASKING + command if self.is_asking else command

    def resolve(self, value: Any) -> None:
        self.is_settled = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(value)

    def fail(self, error: Exception) -> None:
        self.is_settled = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class Commands(Protocol):
    """What the stores need of Redis, whatever its topology: a command goes to whoever has its keys' bucket."""

    def execute(
        self,
        *args: Any,
        bucket: int = 0,
        fallback: Arguments | None = None,
        share_as: object = None,
        is_durable: bool = False,
    ) -> Awaitable[Any]: ...


class Pipeline:
    """Commands to one Redis server over a few connections.

    Args:
        connect: makes a connection that is not open yet; called once per lane.
        wait_replicas: how many replicas must have a durable command's write before its reply is believed.
        lanes: connections; with two, one batch is under way while the other's replies are handled.
        timeout_s: longest from ``execute`` to the reply, queueing, reconnecting and retries included. One attempt takes
            at most half of it, so that there is time for another, with a server that has been promoted meanwhile.
        is_patient: whether to try again where the connection failed, until the time is up; in a Cluster somebody else
            may have the keys by then, so there the caller decides.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        *,
        lanes: int,
        timeout_s: float,
        wait_replicas: int = 0,
        is_patient: bool = True,
    ) -> None:
        self._queue: deque[Command] = deque()
        self._shared: dict[object, Command] = {}
        self._timeout_s = timeout_s
        self._is_closed = False
        self._connect = connect  # a Sentinel's connections know their pool only weakly; this keeps it
        self._lanes = [
            _Lane(
                connect(),
                self._queue,
                self._shared,
                attempt_s=timeout_s / 2,
                wait_replicas=wait_replicas,
                is_patient=is_patient,
            )
            for _ in range(lanes)
        ]

    def start(self) -> None:
        for number, lane in enumerate(self._lanes):
            lane.start(f"redis-lane-{number}")

    async def close(self) -> None:
        """Stop after the commands under way; those still queued, and any later one, fail."""
        self._is_closed = True
        for lane in self._lanes:
            await lane.close()
        while self._queue:
            self._queue.popleft().fail(unavailable(ConnectionError("the service is shutting down")))

    def execute(
        self,
        *args: Any,
        bucket: int = 0,  # noqa: ARG002 - one server has them all
        fallback: Arguments | None = None,
        share_as: object = None,
        is_durable: bool = False,
        is_asking: bool = False,
    ) -> asyncio.Future[Any]:
        """Queue a command; the future gives its reply.

        A command with the same ``share_as`` that was not sent yet is shared, never one under way: its reply might be
        older than this request. ``is_durable``: with ``wait_replicas``, the reply counts only once so many have the
        write. ``is_asking`` sends it as a Cluster's ASK wants it.

        Raises (from the future):
            StoreUnavailableError: no reply in time, or an error reply; StoreRefusedError if that is the command's own fault.
            redis.exceptions.MovedError, AskError: in a Cluster, somebody else has the keys.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        if self._is_closed:
            waiter.set_exception(unavailable(ConnectionError("the service is shutting down")))
            return waiter
        command = None if share_as is None else self._shared.get(share_as)
        if command is None:
            deadline = loop.time() + self._timeout_s
            command = Command(args, deadline, fallback, share_as, is_durable=is_durable, is_asking=is_asking)
            if share_as is not None:
                self._shared[share_as] = command
            self._queue.append(command)
            self._wake_a_lane()
        command.waiters.append(waiter)
        return waiter

    def _wake_a_lane(self) -> None:
        for lane in self._lanes:
            if lane.is_idle:
                lane.wake()
                return


class _Lane:
    def __init__(
        self,
        connection: AbstractConnection,
        queue: deque[Command],
        shared: dict[object, Command],
        *,
        attempt_s: float,
        wait_replicas: int,
        is_patient: bool,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._shared = shared
        self._attempt_s = attempt_s
        self._wait = b""
        if wait_replicas:
            wait: Arguments = ("WAIT", wait_replicas, int(attempt_s * 1000 * WAIT_SHARE))
            self._wait = hiredis.pack_command(wait)
        self._wait_replicas = wait_replicas
        self._is_patient = is_patient
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def is_idle(self) -> bool:
        return self._idle is not None and not self._idle.done()

    def wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def start(self, name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    async def close(self) -> None:
        """Finish the batch under way, then stop."""
        self._is_closing = True
        self.wake()
        if self._task is not None:
            await self._task
        await self._connection.disconnect(nowait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_closing:
            if not self._queue:
                self._idle = loop.create_future()
                await self._idle
                continue
            batch = self._take()
            try:
                await self._exchange(batch)
            except Exception as exc:
                # A lane must outlive what nobody foresaw: without it every request would wait for ever.
                log.exception("lane.failed")
                _fail_all(batch, exc)
                await self._connection.disconnect(nowait=True)

    def _take(self) -> list[Command]:
        batch: list[Command] = []
        while self._queue and len(batch) < MAX_BATCH:
            command = self._queue.popleft()
            if command.share_as is not None:
                self._shared.pop(command.share_as, None)
            batch.append(command)
        return batch

    async def _exchange(self, batch: list[Command]) -> None:
        """Get every command of the batch a reply or an error, over as many connections as that takes."""
        loop = asyncio.get_running_loop()
        error: Exception = TimeoutError("no answer in time")
        while batch := _still_waiting(batch, loop.time(), error):
            try:
                soonest = min([command.deadline for command in batch])
                async with asyncio.timeout_at(min(soonest, loop.time() + self._attempt_s)):
                    batch = await self._attempt(batch)
            except (RedisError, OSError, TimeoutError) as exc:
                error = exc if str(exc) else TimeoutError("no answer in time")
                await self._connection.disconnect(nowait=True)
                if not self._is_patient:
                    _fail_all(batch, exc)
                    return
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _attempt(self, batch: list[Command]) -> list[Command]:
        """Send the batch and read its replies; returns the commands that must be sent again, in another form."""
        connection = self._connection
        if not connection.is_connected:
            # Not left to send_packed_command: that skips what a Sentinel's connection does to find its master.
            await connection.connect()  # type: ignore[no-untyped-call]
        is_confirmed = bool(self._wait) and any(command.is_durable for command in batch)
        packed = b"".join([command.packed for command in batch])
        await connection.send_packed_command([packed + self._wait if is_confirmed else packed], check_health=False)
        again: list[Command] = []
        unconfirmed: list[tuple[Command, Any]] = []
        demoted: ReadOnlyError | None = None
        for command in batch:
            try:
                if command.is_asking:
                    await connection.read_response()
                reply = await connection.read_response()
            except NoScriptError as exc:
                if command.fallback is None:
                    command.fail(exc)
                else:
                    command.pack(command.fallback)
                    command.fallback = None
                    again.append(command)
            except ReadOnlyError as exc:
                demoted = exc
            except (MovedError, AskError) as exc:
                command.fail(exc)
            except ResponseError as exc:
                command.fail(_refused(exc))
            else:
                if is_confirmed and command.is_durable:
                    unconfirmed.append((command, reply))
                else:
                    command.resolve(reply)
        if is_confirmed:
            self._confirm(unconfirmed, await connection.read_response())
        if demoted is not None:
            # A demoted master: raising drops the connection, and the next one looks for the master anew.
            raise demoted
        return again

    def _confirm(self, unconfirmed: list[tuple[Command, Any]], replicas: int) -> None:
        """Believe the replies of durable commands if enough replicas have what they wrote."""
        for command, reply in unconfirmed:
            if replicas >= self._wait_replicas:
                command.resolve(reply)
            else:
                command.fail(unavailable(ConnectionError(f"{replicas} of {self._wait_replicas} replicas confirmed")))


def _still_waiting(batch: list[Command], now: float, error: Exception) -> list[Command]:
    """The commands that have no reply yet; those whose time is up get the last error for one."""
    for command in batch:
        if not command.is_settled and command.deadline <= now:
            command.fail(unavailable(error))
    return [command for command in batch if not command.is_settled]


def _fail_all(batch: list[Command], error: Exception) -> None:
    for command in batch:
        if not command.is_settled:
            command.fail(unavailable(error))


def _refused(error: ResponseError) -> StoreUnavailableError:
    """No sender can cause an error reply: it speaks of Redis's state, unless it names the command's own fault."""
    return unavailable(error, StoreRefusedError if _COMMANDS_FAULT.search(str(error)) else StoreUnavailableError)


def unavailable(cause: Exception, kind: type[StoreUnavailableError] = StoreUnavailableError) -> StoreUnavailableError:
    failure = kind("The result store is not available now; try again in a second")
    failure.__cause__ = cause
    return failure
