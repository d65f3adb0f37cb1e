"""What the connections of one process share: the bytes that they have read ahead, and the descriptors that are left."""

from __future__ import annotations

import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal, Protocol

import structlog

log = structlog.get_logger(__name__)

READ_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""What all connections may hold unanswered: whoever pipelines, or sends a large head, while it is full is turned away."""

BACKLOG: Final = 4096
"""Thousands of pollers may come back at once."""

LOG_EVERY_S: Final = 60.0

SHORT_FOR_S: Final = 10.0
"""How long we keep to the number of connections that was too many, since descriptors last ran short."""

SPARED_S: Final = 1.0
"""How long a new connection, or a request that has just begun, is spared while others may give way. Honest clients have
sent the rest by then."""

Loss = Literal["idle", "refused"]


class Connection(Protocol):
    """What is needed of a connection to close it."""

    def give_way(self) -> None: ...


Queue = OrderedDict[Connection, float]
"""Connections that may be closed, the one that has stood there longest first; and since when, on the monotonic clock."""


class Connections:
    """The bounds that hold for all connections together.

    Args:
        on_shortage: told of each connection that is lost because descriptors run short.
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
        """Connections whose request has a head but no end, or whose client does not take its answer."""

    def charge(self, size: int) -> bool:
        """Count bytes that are read ahead (or, below 0, no longer are); false when there are too many."""
        self._read_ahead_bytes += size
        return size <= 0 or self._read_ahead_bytes <= READ_AHEAD_BYTES

    def has_room_for(self, descriptor: int, connections: int) -> bool:
        """Whether a new connection may be served; when descriptors run short, one without a whole request gives way.

        The kernel gives out the lowest free number: a high one says that as many are in use, files included. A low one
        may be a gap that a closed connection left, so we then also keep to the number of connections that was too many.
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
        """The queue whose oldest connection is closed next: idle ones first, then half heads, then what is unfinished.

        What stands there only for a moment is passed over: the only idle connection may be one that was accepted in
        this turn, and nothing was read from it yet. When there is nothing else, the oldest of all gives way.
        """
        since = [
            (next(iter(queue.values())), queue) for queue in (self.idle, self.half_heads, self.unfinished) if queue
        ]
        for began_at, queue in since:
            if began_at <= now - SPARED_S:
                return queue
        return min(since, key=lambda oldest: oldest[0])[1] if since else None

    def must_drop(self, descriptor: int) -> bool:
        """Whether not even an answer that refuses can be afforded."""
        return descriptor >= self._limit - self._reserve // 4


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def backlog_of(limit: int) -> int:
    """Connections that may wait to be accepted: all of them are accepted in one turn of the event loop.

    Only afterwards can we make room. As many must therefore fit into the reserve: without a descriptor libuv accepts and
    closes at once, unseen by us, and where even its own spare one is gone, uvloop closes the listening socket.
    """
    return max(8, min(BACKLOG, limit // 8))
