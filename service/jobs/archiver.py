"""Writes changed calls to the archive: every process takes its share of what Redis's streams name.

A change is done only once PostgreSQL has committed it. So nothing is lost while PostgreSQL, or this process, is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from service.archive.database import Archive
from service.errors import ArchiveUnavailableError, StoreUnavailableError
from service.jobs.archive_backlog import ArchiveBacklog
from service.jobs.archive_batches import ArchiveBatches
from service.store.archive_stream import ArchiveStream
from service.store.keys import BUCKETS

log = structlog.get_logger(__name__)

ARCHIVE_EVERY_S: Final = 0.5
"""A call is a row within 2 s of its report."""

READ_PER_BUCKET: Final = 50

LATE_S: Final = 60.0
"""Longer than it takes to write what a dead process has left."""

TAKE_OVER_EVERY_S: Final = 5.0

TIDY_EVERY_S: Final = 600.0

SHORTEST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
"""Pauses between two tries while PostgreSQL is away."""

CHECK_EVERY_S: Final = 10.0
"""How often PostgreSQL is asked when there is nothing to write, so that health knows whether it is there."""

CHECK_TIMEOUT_S: Final = 3.0

CLOSE_S: Final = 1.5
"""Wait at shutdown for a batch under way. Another replica repeats one that is cut off."""


class Archiver:
    """One per process. Only the task that calls it waits for PostgreSQL to take what changed."""

    def __init__(
        self,
        archive: Archive,
        stream: ArchiveStream,
        batches: ArchiveBatches,
        backlog: ArchiveBacklog,
        *,
        retention_days: int,
    ) -> None:
        self._archive = archive
        self._stream = stream
        self._batches = batches
        self.backlog = backlog
        self._retention_days = retention_days
        self._round: asyncio.Task[None] | None = None
        self._is_closing = False
        self._pause_s, self._pause_until = 0.0, 0.0
        self._due_at: dict[str, float] = {}
        """When each of the seldom tasks is due, by ``time.monotonic``."""
        self.problem: str | None = None
        """Why PostgreSQL cannot be used, for operators; None while it can, and before it was first asked."""

    @property
    def is_late(self) -> bool:
        """Whether changes wait for so long that somebody should look why."""
        return self.backlog.age_s > LATE_S

    async def archive_changes(self) -> None:
        """Write what has changed. Call it every ARCHIVE_EVERY_S; a round that has begun is not cancelled with it."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._archive_changes(), name="archive-round")
        await asyncio.shield(self._round)

    async def close(self) -> None:
        """Call it after cancelling ``archive_changes``. Waits CLOSE_S for a batch under way and gives back the rest."""
        self._is_closing = True
        if self._round is not None:
            await asyncio.wait([self._round], timeout=CLOSE_S)
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)
        await asyncio.gather(*map(self._stream.give_back, range(BUCKETS)), return_exceptions=True)

    async def _archive_changes(self) -> None:
        are_more_left = True
        while are_more_left and not self._is_closing:
            is_pausing = time.monotonic() < self._pause_until
            are_more_left = await self._read(0 if is_pausing or self._batches else READ_PER_BUCKET)
            if not is_pausing:
                await self._ask_postgres(self._write_what_was_read)
                await self._ask_postgres(self._do_seldom)
            await self.backlog.bound()

    async def _read(self, most: int) -> bool:
        """Look at all streams and read ``most`` entries of each; returns whether there are more to read."""
        takes_over = most > 0 and self._is_due("take_over", TAKE_OVER_EVERY_S)

        async def look(bucket: int) -> bool:
            try:
                seen = await self._stream.read(bucket, most, takes_over=takes_over)
            except StoreUnavailableError:
                return False
            self.backlog.note(bucket, seen)
            self._batches.add(seen.entries)
            return seen.is_full

        return any(await asyncio.gather(*map(look, range(BUCKETS))))

    async def _write_what_was_read(self) -> None:
        while self._batches and not self._is_closing:
            await self._batches.write_some()
            self._note_problem(None)
            self._due_at["check"] = time.monotonic() + CHECK_EVERY_S

    async def _do_seldom(self) -> None:
        if self._is_due("check", CHECK_EVERY_S):
            self._note_problem(await self._archive.find_problem(time.monotonic() + CHECK_TIMEOUT_S))
        # Not in all processes at once, nor just after the start.
        if self._is_due("tidy", TIDY_EVERY_S * random.uniform(0.5, 1.5), at_first=False):  # noqa: S311 - spreads load
            await asyncio.gather(*map(self._stream.tidy_consumers, range(BUCKETS)), return_exceptions=True)
            while await self._archive.prune(self._retention_days) and not self._is_closing:
                log.info("archive.pruned", older_than_days=self._retention_days)

    async def _ask_postgres(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work, unless PostgreSQL failed a moment ago. Each failure lengthens the pause; what was read is kept."""
        if time.monotonic() < self._pause_until:
            return
        try:
            await work()
            self._pause_s = 0.0
        except ArchiveUnavailableError as exc:
            self._note_problem(exc.reason)
            self._pause_s = min(max(2 * self._pause_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
            self._pause_until = time.monotonic() + self._pause_s

    def _is_due(self, task: str, every_s: float, *, at_first: bool = True) -> bool:
        """Whether the task is due now; then it is due again after ``every_s``."""
        now = time.monotonic()
        due_at = self._due_at.setdefault(task, now if at_first else now + every_s)
        if now < due_at:
            return False
        self._due_at[task] = now + every_s
        return True

    def _note_problem(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.error("archive.unavailable", reason=problem)
        elif problem is None and self.problem is not None:
            log.info("archive.available", backlog=self.backlog.changes)
        self.problem = problem
