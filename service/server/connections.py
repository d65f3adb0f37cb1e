"""Limits that all connections of one process share: bytes read ahead, and file descriptors."""

from __future__ import annotations

import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal, Protocol

import structlog

log = structlog.get_logger(__name__)

READ_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Memory for unanswered input of all connections. While it is full, pipelined requests and large heads are refused.
Without it, 5,000 connections that had sent one head of 60 kB each held 350 MB."""

BACKLOG: Final = 4096
"""Thousands of pollers may reconnect at once."""

LOG_EVERY_S: Final = 60.0

SHORT_FOR_S: Final = 10.0
"""How long after the last shortage of descriptors we also limit the number of connections."""

SPARED_S: Final = 1.0
"""A new connection or request is not closed for others within this time, if an older one can be. Honest clients have
sent the rest by then."""

Loss = Literal["idle", "refused"]


class Connection(Protocol):
    """A connection that can be closed for others."""

    def give_way(self) -> None: ...


Queue = OrderedDict[Connection, float]
"""Connections that may be closed, longest in the queue first, with the monotonic time they entered it."""


class Connections:
    """The limits for all connections together.

    Args:
        on_shortage: called for each connection that is lost because descriptors run short.
    """

    def __init__(self, on_shortage: Callable[[Loss], None] = lambda _: None) -> None:
        self._on_shortage = on_shortage
        self._limit = descriptor_limit()
        self._reserve = 2 * backlog_of(self._limit)
        self._logged_at = -LOG_EVERY_S
        self._most_connections, self._short_until = self._limit, 0.0
        self._read_ahead_bytes = 0
        self.idle: Queue = OrderedDict()
        """Connections that have not begun a request."""
        self.half_heads: Queue = OrderedDict()
        self.unfinished: Queue = OrderedDict()
        """Connections whose request has a head but no end, or whose client does not read its answer."""

    def charge(self, size: int) -> bool:
        """Count bytes read ahead; a negative size releases them. False when there are too many."""
        self._read_ahead_bytes += size
        return size <= 0 or self._read_ahead_bytes <= READ_AHEAD_BYTES

    def has_room_for(self, descriptor: int, connections: int) -> bool:
        """Whether a new connection may be served. When descriptors run short, one without a whole request is closed.

        The kernel assigns the lowest free descriptor, so a high number means that as many are in use, files included.
        A low number may be a gap left by a closed connection, so after a shortage we also limit the connections.
        """
        now = time.monotonic()
        if descriptor >= self._limit - self._reserve:
            self._most_connections, self._short_until = min(self._most_connections, connections - 1), now + SHORT_FOR_S
        elif now >= self._short_until:
            self._most_connections = self._limit
        if descriptor < self._limit - self._reserve and connections <= self._most_connections:
            return True
        queue = self._next_to_give_way(now)
        kind: Loss = "idle" if queue else "refused"
        self._on_shortage(kind)
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            waiting = len(self.idle) + len(self.half_heads) + len(self.unfinished)
            log.error("descriptors.ran_short", limit=self._limit, reserve=self._reserve, waiting=waiting)
        if queue:
            queue.popitem(last=False)[0].give_way()
        return kind == "idle"

    def _next_to_give_way(self, now: float) -> Queue | None:
        """The queue whose oldest connection is closed next: idle ones first, then half heads, then unfinished ones.

        Connections younger than SPARED_S are skipped: the only idle one may have been accepted in this turn of the
        loop, before anything was read from it. If all are that young, the oldest of all is closed.
        """
        since = [
            (next(iter(queue.values())), queue) for queue in (self.idle, self.half_heads, self.unfinished) if queue
        ]
        for began_at, queue in since:
            if began_at <= now - SPARED_S:
                return queue
        return min(since, key=lambda oldest: oldest[0])[1] if since else None

    def must_drop(self, descriptor: int) -> bool:
        """True when too few descriptors are left even to send a refusal."""
        return descriptor >= self._limit - self._reserve // 4


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def backlog_of(limit: int) -> int:
    """How many connections may wait to be accepted. All of them are accepted in one turn of the event loop.

    We can only close others after that turn, so the whole backlog must fit into the reserve. Without a descriptor libuv
    accepts and closes at once, unseen by us. When its own spare one is gone too, uvloop closes the listening socket.
    """
    return max(8, min(BACKLOG, limit // 8))
