"""One connection to Redis with one batch of commands under way at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from service.redis_client.command import Arguments, Command, refused, unavailable
from service.redis_client.command_queue import MAX_BATCH, USUAL_BATCH, CommandQueue
from service.redis_client.loop_tolerant_timeout import LoopTolerantTimeout
from service.redis_client.redis_socket import RedisSocket, open_socket
from service.redis_client.wrong_topology import IS_A_CLUSTER, WrongTopology

log = structlog.get_logger(__name__)

RETRY_PAUSE_S: Final = 0.05
"""A Redis that is restarting refuses a connection within a millisecond: without a pause we would ask in a busy loop."""

ONLY_CLUSTERS_ANSWER: Final = (MovedError, AskError, TryAgainError, ClusterDownError, ClusterCrossSlotError)
"""But not MasterDownError, which redis-py derives from ClusterDownError: a replica of a single master answers it too."""

WAIT_SHARE: Final = 0.8
"""Share of an attempt's time that replicas may take to confirm."""

LARGER_WITHIN: Final = 0.7
"""After a batch that took less than this share of an attempt, the next may be twice as large; else half as large. A
slow Redis must answer a whole batch within one attempt, or the batch is sent again for nothing."""


class RedisConnection:
    """Takes queued commands batch by batch, and gets every command a reply or an error."""

    def __init__(
        self,
        connection: AbstractConnection,
        queue: CommandQueue,
        *,
        attempt_s: float,
        wait_replicas: int,
        is_patient: bool,
        wake_another: Callable[[], None],
        on_too_few_replicas: Callable[[], None],
        on_roundtrip: Callable[[float], None],
        wrong_topology: WrongTopology,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._batch: list[Command] = []
        self._largest_batch = MAX_BATCH
        self._attempt_s = attempt_s
        self._wait = b""
        if wait_replicas:
            wait: Arguments = ("WAIT", wait_replicas, int(attempt_s * 1000 * WAIT_SHARE))
            self._wait = hiredis.pack_command(wait)
        self._wait_replicas = wait_replicas
        self._is_patient = is_patient
        self._wake_another = wake_another
        self._on_too_few_replicas = on_too_few_replicas
        self._on_roundtrip = on_roundtrip
        self._wrong_topology = wrong_topology
        self._servers_left = 0
        self._socket: RedisSocket | None = None
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self.trouble: Exception | None = None
        """Why the last attempt failed; None if it succeeded."""

    @property
    def is_idle(self) -> bool:
        return self._idle is not None and not self._idle.done()

    def wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    @property
    def has_batch(self) -> bool:
        return bool(self._batch)

    def fail_late(self, now: float, responsive_s: float) -> None:
        """Fail the late commands of the batch under way. Their replies are still read, and ignored."""
        cause = self.trouble or TimeoutError("no answer in time")
        for command in self._batch:
            command.fail_late(now, responsive_s, cause)

    def start(self, name: str) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    def leave_server(self) -> None:
        """Drop the connection, even one that is being made. Its batch is sent again on the next connection."""
        self._servers_left += 1
        if self._socket is not None:
            self._socket.drop()

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
            if self._queue:
                self._wake_another()  # large commands end a batch early
            try:
                await self._exchange(batch)
            except Exception as exc:
                # An unforeseen error must not end this task: every request would then wait for ever.
                log.exception("redis_connection.failed")
                _fail_all(batch, exc)
                await self._disconnect()
            self._batch = batch = []  # an idle connection must not keep the last batch in memory

    async def _connect_ahead(self) -> None:
        """Connect before the first command, so that a burst need not wait for connections to open."""
        with suppress(Exception):  # the first batch meets the same error and reports it
            async with LoopTolerantTimeout(self._attempt_s):
                await self._connect()

    async def _connect(self) -> None:
        servers_left = self._servers_left
        socket = await open_socket(self._connection)
        if servers_left != self._servers_left:
            raise RedisConnectionError("another server became the master")
        self._socket = socket

    async def _exchange(self, batch: list[Command]) -> None:
        """Get every command of the batch a reply or an error, reconnecting as often as needed."""
        loop = asyncio.get_running_loop()
        while batch := [command for command in batch if not command.is_done]:
            started = loop.time()
            try:
                async with LoopTolerantTimeout(self._attempt_s):
                    batch = await self._attempt(batch)
            except (RedisError, OSError, TimeoutError) as exc:
                self.trouble = exc if str(exc) else TimeoutError("no answer in time")
                self._largest_batch = USUAL_BATCH
                await self._disconnect()
                if not self._is_patient:
                    _fail_all(batch, self.trouble)
                    return
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                self.trouble = None
                self._adapt(loop.time() - started)

    def _adapt(self, took_s: float) -> None:
        """Set the size limit of the next batch by how long the last one took."""
        if took_s > LARGER_WITHIN * self._attempt_s:
            self._largest_batch = max(USUAL_BATCH, self._largest_batch // 2)
        elif self._queue:
            self._largest_batch = min(MAX_BATCH, self._largest_batch * 2)

    async def _attempt(self, batch: list[Command]) -> list[Command]:
        """Send the batch and read its replies; returns the commands to send again with their script's source."""
        if self._socket is None or self._socket.is_lost:
            await self._disconnect()
            await self._connect()
        assert self._socket is not None
        waits_for_replicas = bool(self._wait) and any(command.is_durable for command in batch)
        packed = b"".join([command.packed for command in batch])
        count = len(batch) + sum([command.needs_asking for command in batch]) + waits_for_replicas
        started = time.perf_counter()
        arrived = await self._socket.exchange(packed + self._wait if waits_for_replicas else packed, count)
        self._on_roundtrip(time.perf_counter() - started)
        if len(arrived) > count:
            raise InvalidResponse("Redis sent more replies than it was sent commands")
        confirming = _replicas_in(arrived.pop()) if waits_for_replicas else 0
        again: list[Command] = []
        demoted: ReadOnlyError | None = None
        replies = iter(arrived)
        for command in batch:
            if command.needs_asking:
                next(replies)  # the reply to ASKING
            reply = next(replies)
            if isinstance(reply, ReadOnlyError):
                demoted = reply  # the command is sent again, to the new master
            elif isinstance(reply, NoScriptError) and command.script is not None:
                command.send_script()
                again.append(command)
            elif isinstance(reply, ResponseError):
                self._fail_with(command, reply)
            elif waits_for_replicas and command.is_durable and confirming < self._wait_replicas:
                command.fail(unavailable(ConnectionError(f"{confirming} of {self._wait_replicas} replicas confirmed")))
                self._on_too_few_replicas()
            else:
                command.resolve(reply)
        if demoted is not None:
            raise demoted  # this drops the connection, and the next one asks anew who is the master
        return again

    def _fail_with(self, command: Command, error: ResponseError) -> None:
        if self._is_patient and isinstance(error, ONLY_CLUSTERS_ANSWER) and not isinstance(error, MasterDownError):
            command.fail(self._wrong_topology.notice(IS_A_CLUSTER))
        elif isinstance(error, MovedError | AskError):
            command.fail(error)
        else:
            command.fail(refused(error))
        if str(error).startswith("NOREPLICAS"):
            self._on_too_few_replicas()

    async def _disconnect(self) -> None:
        """Does not wait for the connection to close: our socket, not redis-py's stream, would be told of that."""
        self._socket = None
        await self._connection.disconnect(nowait=True)


def _replicas_in(reply: Any) -> int:
    """How many replicas have the writes, from the reply to WAIT."""
    if isinstance(reply, ResponseError):
        raise reply
    return int(reply)


def _fail_all(batch: list[Command], error: Exception) -> None:
    for command in batch:
        if not command.is_done:
            command.fail(unavailable(error))
