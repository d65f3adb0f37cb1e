"""Joins the commands of concurrent requests: those of one turn of the event loop are sent in one write.

Each of the few connections has one batch under way at most; while it waits for replies, the next batch
collects. A request waits only for its command's future. Cancelling the request touches no connection, so no reply is
left half-read, and a started write is finished. All commands must be safe to repeat, because a batch is sent again
when its connection broke.

redis-py opens the connections; its pool and its pipelines are not used. Measured on two cores: one command per request
over its pool is 9,000 to 10,000 requests a second, batches over one connection 29,000; by its defaults one SET to a hung
Redis fails after 59 s; requests that wait for a connection of its blocking pool starve (p99.9: 1.4 s); and a connection
to a master that became a replica (READONLY) is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection

from service.redis_client.command import Command, unavailable
from service.redis_client.command_queue import USUAL_BATCH, CommandQueue
from service.redis_client.redis_connection import RedisConnection
from service.redis_client.responsive_clock import ResponsiveClock
from service.redis_client.wrong_topology import WrongTopology


class Pipeline:
    """Commands to one Redis server over a few connections.

    Args:
        connect: makes a connection that is not open yet; called once per connection.
        wait_replicas: how many replicas must have a durable command's write before it succeeds.
        connections: how many connections; while one waits for its replies, another sends the next batch.
        timeout_s: longest time from ``execute`` to the reply when no deadline is given, including queueing,
            reconnecting and retries. One attempt takes at most half of it, which leaves time for another attempt with
            a newly promoted server.
        is_patient: whether to retry after a failed connection until the time is up. False in a Cluster, where the
            caller decides: another node may have the keys by then.
        on_too_few_replicas: called when a reply shows that too few replicas follow, as happens to a master that was cut off and
            replaced.
        on_roundtrip: called with the seconds from the writing of a batch to its last reply.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        *,
        connections: int,
        timeout_s: float,
        wait_replicas: int = 0,
        is_patient: bool = True,
        on_too_few_replicas: Callable[[], None] = lambda: None,
        on_roundtrip: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._queue = CommandQueue(connections)
        self._timeout_s = timeout_s
        self._attempt_s = timeout_s / 2
        self._clock = ResponsiveClock(self._fail_late)
        self._is_closed = False
        self._wrong_topology = WrongTopology()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connect = connect  # a Sentinel's connections hold their pool by a weak reference; this keeps it
        self._connections = [
            RedisConnection(
                connect(),
                self._queue,
                attempt_s=self._attempt_s,
                wait_replicas=wait_replicas,
                is_patient=is_patient,
                wake_another=self._wake_idle_connection,
                on_too_few_replicas=on_too_few_replicas,
                on_roundtrip=on_roundtrip,
                wrong_topology=self._wrong_topology,
            )
            for _ in range(connections)
        ]

    @property
    def topology_problem(self) -> str | None:
        return self._wrong_topology.problem

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()  # asking for it at each command is a system call on Python 3.11
        for number, connection in enumerate(self._connections):
            connection.start(f"redis-connection-{number}")

    def leave_server(self) -> None:
        """Reconnect, as another server is the master now. Commands without a reply are sent again."""
        for connection in self._connections:
            connection.leave_server()

    async def close(self) -> None:
        """Finish the commands under way. Queued and later commands fail."""
        self._is_closed = True
        for connection in self._connections:
            await connection.close()
        self._queue.fail_all(unavailable(ConnectionError("the service is shutting down")))

    async def find_masters(self) -> dict[str, int]:
        """The one master, with one of its buckets; as ``ClusterPipeline.find_masters``."""
        return {"redis": 0}

    def execute(
        self,
        *args: Any,
        bucket: int = 0,  # noqa: ARG002 - one server has them all
        script: bytes | None = None,
        coalesce_key: object = None,
        is_durable: bool = False,
        needs_asking: bool = False,
        deadline: float | None = None,
    ) -> asyncio.Future[Any]:
        """Queue a command; the future gives its reply.

        ``script`` is the source of the script that the command calls by its hash, for a Redis that does not know it yet.
        Requests with the same ``coalesce_key`` share one command until it is sent. Later its reply might be older than
        the request. ``is_durable``: the command succeeds only once ``wait_replicas`` replicas have its write.
        ``needs_asking`` sends ASKING before it, after a Cluster's ASK. ``deadline`` (``time.monotonic``) is for a
        request that has waited for Redis before. A late command is dropped if it was not written yet; if it was, it
        may still take effect.

        Raises (from the future):
            StoreUnavailableError: no reply in time, or an error reply; StoreRefusedError if the command caused it.
            redis.exceptions.MovedError, AskError: in a Cluster, another node has the keys.
        """
        loop = self._loop or asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()
        if self._is_closed:
            waiter.set_exception(unavailable(ConnectionError("the service is shutting down")))
            return waiter
        now = time.monotonic()
        if deadline is None:
            deadline = now + self._timeout_s
        elif deadline <= now:
            waiter.set_exception(unavailable(TimeoutError("the request has waited for Redis long enough")))
            return waiter
        command = None if coalesce_key is None else self._queue.find_shared(coalesce_key)
        if command is None:
            clock = self._clock
            responsive_deadline_s = clock.now_s + min(self._attempt_s, deadline - now)
            command = Command(
                args,
                script,
                coalesce_key,
                waiter,
                deadline,
                responsive_deadline_s,
                is_durable=is_durable,
                needs_asking=needs_asking,
            )
            waiting = self._queue.put(command)
            if not waiting:
                waiter.set_exception(unavailable(ConnectionError("too many commands wait for Redis")))
                return waiter
            if not clock.is_going:
                clock.go(loop)
            # A connection that was woken takes up to USUAL_BATCH commands; wake another only for every USUAL_BATCH-th.
            if waiting % USUAL_BATCH == 1:
                self._wake_idle_connection()
        else:
            command.add_waiter(waiter, deadline)
        return waiter

    def _wake_idle_connection(self) -> None:
        for connection in self._connections:
            if connection.is_idle:
                connection.wake()
                return

    def _fail_late(self) -> bool:
        """Fail late commands: queued ones are dropped unsent, the replies to written ones are read and ignored.

        Returns whether commands are left that may become late.
        """
        now = time.monotonic()
        self._queue.fail_late(now, self._clock.now_s, self._trouble() or TimeoutError("Redis is too slow"))
        for connection in self._connections:
            connection.fail_late(now, self._clock.now_s)
        return bool(self._queue) or any(connection.has_batch for connection in self._connections)

    def _trouble(self) -> Exception | None:
        return next((connection.trouble for connection in self._connections if connection.trouble is not None), None)
