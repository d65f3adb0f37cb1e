"""Keeps the log of changes for the streams of all calls' events: one feed per process.

It follows the changes, and reads the calls that changed, only while a stream listens. A stream has nothing but its
position in the log, so a slow one costs no memory: of each call it gets the latest change when it has room for it.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from types import TracebackType
from typing import Final, Self

import structlog

from service.calls.record import etag_of, render_change
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import StoreUnavailableError
from service.event_format import render_id
from service.jobs.change_log import EVENTS_AT_ONCE, MAX_CALLS, ChangeLog, Events
from service.store.calls import CallStore
from service.store.changes import Changes, Waiter

log = structlog.get_logger(__name__)

READS_AT_ONCE: Final = 16

WAKES_AT_ONCE: Final = 25
"""Each stream that is woken takes 40 to 100 us to write. To wake 10,000 at once blocked webhooks for more than a second."""

REST: Final = 2.0
"""How long the feed rests after a batch of reads or wakes, as a multiple of its time. So ten thousand changes, or
thousands of streams, leave most of the process's time to webhooks and polls."""

LINGER_S: Final = 60.0
"""How long the feed goes on after its last stream has ended: most clients come back within seconds."""

PAUSE_AFTER_FAILURE_S: Final = 1.0


class ChangeFeed:
    """The feed of one process, and its readers."""

    def __init__(self, changes: Changes, calls: CallStore) -> None:
        self._changes = changes
        self._calls = calls
        self._readers: set[FeedReader] = set()
        self._stats_readers = 0
        self._unread: dict[bytes, None] = {}
        """Calls that changed and were not read yet, those that wait longest first."""
        self._has_news = False
        self._task: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.log = ChangeLog()
        self.stats: bytes | None = None
        """The latest event of stats, for the readers that want it."""

    def add(self, reader: FeedReader) -> None:
        self._readers.add(reader)
        self._stats_readers += reader.wants_stats
        self._end_lingering()
        self._changes.follower = self

    def remove(self, reader: FeedReader) -> None:
        self._readers.discard(reader)
        self._stats_readers -= reader.wants_stats
        if not self.wants_stats:
            self.stats = None
        if not self._readers:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._unfollow)

    def call_changed(self, call_id: bytes) -> None:
        """See Follower. Of a burst of more than MAX_CALLS the first calls are dropped, which is a gap."""
        if len(self._unread) >= MAX_CALLS and call_id not in self._unread:
            del self._unread[next(iter(self._unread))]
            self._add_gap()
        self._unread[call_id] = None
        self._start_work()

    def changes_missed(self) -> None:
        """See Follower."""
        self._add_gap()
        self._start_work()

    @property
    def wants_stats(self) -> bool:
        return self._stats_readers > 0

    def publish_stats(self, event: bytes) -> None:
        self.stats = event
        self._has_news = True
        self._start_work()

    def wake_all(self) -> None:
        for reader in self._readers:
            reader.wake()

    async def close(self) -> None:
        self._unfollow()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _add_gap(self) -> None:
        self.log.add_gap()
        self._has_news = True

    def _end_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _unfollow(self) -> None:
        """From now on changes are not noticed."""
        self._end_lingering()
        self._changes.follower = None
        self._unread.clear()
        self.log.forget_all()

    def _start_work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="change-feed")

    async def _work(self) -> None:
        """Read what changed and wake the readers, until there is nothing more."""
        while self._unread or self._has_news:
            rest_s = await self._read_up_to(EVENTS_AT_ONCE)
            if self._has_news:
                self._has_news = False
                await self._wake_readers()
            await asyncio.sleep(rest_s)

    async def _read_up_to(self, count: int) -> float:
        """Read what streams are then woken for at once. Returns for how many seconds to rest after that.

        To wake a thousand streams takes a tenth of a second. Done after every 16 reads, a burst took minutes to arrive.
        """
        loop = asyncio.get_running_loop()
        rest_s = 0.0
        for _ in range(0, count, READS_AT_ONCE):
            if not self._unread:
                break
            await asyncio.sleep(rest_s)
            began_at = loop.time()
            if await self._read_some():
                return PAUSE_AFTER_FAILURE_S
            rest_s = REST * (loop.time() - began_at)
        return rest_s

    async def _read_some(self) -> bool:
        """Read the calls that wait longest. True where Redis is away: those calls wait on."""
        call_ids = list(islice(self._unread, READS_AT_ONCE))
        for call_id in call_ids:
            del self._unread[call_id]
        reads = (self._calls.find(call_id) for call_id in call_ids)
        is_away = False
        for call_id, found in zip(call_ids, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if isinstance(found, StoreUnavailableError):
                self._unread[call_id] = None
                is_away = True
            elif isinstance(found, BaseException):
                log.error("change_feed.read_failed", call_id=call_id.decode(errors="replace"), exc_info=found)
            elif found is not None and self._add_to_log(call_id, found):
                self._has_news = True
        return is_away

    def _add_to_log(self, call_id: bytes, call: StoredCall | Tombstone) -> bool:
        """False where the log has it: each change is told of by its notification and by the next sweep."""
        if isinstance(call, StoredCall):
            return self.log.add_change(call_id, etag_of(call, "summary"), render_change(call))
        return self.log.add_deletion(call_id)

    async def _wake_readers(self) -> None:
        loop = asyncio.get_running_loop()
        readers = list(self._readers)
        for begin in range(0, len(readers), WAKES_AT_ONCE):
            began_at = loop.time()
            for reader in readers[begin : begin + WAKES_AT_ONCE]:
                reader.wake()
            await asyncio.sleep(0)  # they write now
            if begin + WAKES_AT_ONCE < len(readers):
                await asyncio.sleep(REST * (loop.time() - began_at))


class FeedReader(Waiter):
    """One stream's place in the log. It is woken when there is something to read.

    Args:
        last_event_id: where an earlier stream ended; None to begin with what changes from now on.
        wants_stats: whether the stats are read, too.
    """

    __slots__ = ("_feed", "_is_foreign", "_position", "_stats", "wants_stats")

    def __init__(self, feed: ChangeFeed, last_event_id: bytes | None, *, wants_stats: bool) -> None:
        super().__init__()
        self._feed = feed
        found = None if last_event_id is None else feed.log.find_position(last_event_id)
        self._is_foreign = last_event_id is not None and found is None
        self._position = feed.log.position if found is None else found
        self._stats: bytes | None = None
        self.wants_stats = wants_stats

    def __enter__(self) -> Self:
        self._feed.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.remove(self)

    def begin(self) -> Events:
        """What comes first: the id to come back with, as a gap where another process sent the last event."""
        if self._is_foreign:
            return self._feed.log.gap_at(self._position)
        return Events(render_id(self._feed.log.id_of(self._position)), 0, self._position)

    def read(self) -> Events | None:
        """The next events; None when there is nothing new."""
        stats = self._feed.stats
        if self.wants_stats and stats is not None and stats is not self._stats:
            self._stats = stats
            return Events(stats, 1, self._position)
        events = self._feed.log.find_after(self._position)
        if events is not None:
            self._position = events.position
        return events
