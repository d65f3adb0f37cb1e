"""The archive: one row per call in PostgreSQL."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, Final

import msgspec
import structlog

from service.archive.connection import PostgresPool
from service.archive.rows import TABLE, UNREADABLE, decode_row, selected
from service.archive.writing import LOCK, LOCKS, TAKE_LOCKS, WriteResult, split_by_size, write_rows
from service.calls.facts import LARGE_FACTS
from service.calls.phone import digest_of_phone, normalize_phone
from service.calls.stamped_call import StampedCall
from service.config import Settings
from service.errors import ArchiveUnavailableError

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S: Final = 10.0
"""For one transaction of ``write``. Large records get WRITE_S_PER_BYTE more."""

WRITE_S_PER_BYTE: Final = 3e-6
"""Twice what was measured: arrays of a million numbers took 0.7 s a MB on a busy core, and as long again to merge."""

FORGET_TIMEOUT_S: Final = 300.0
"""There is no index on ``provider_phone``, so the whole table is read."""

EXPORT_TIMEOUT_S: Final = 24 * 3600.0

ROWS_AT_ONCE: Final = 200
"""How many rows an export reads at once, with all they hold."""

PRUNED_AT_ONCE: Final = 1_000

ERASURES_KEPT_DAYS: Final = 30
"""Longer than any message may wait in a spool or a stream."""

PAUSE_AFTER_FAILURE_S: Final = (1.0, 3.0)
"""After a failure reads fail at once for some time. Then one tries again, and all others fail until it has succeeded.
So a database that hangs holds up one poll after each pause, not all polls that come meanwhile."""

FIND_SPELLINGS: Final = f"""
SELECT DISTINCT provider_phone FROM {TABLE} WHERE strpos(regexp_replace(provider_phone, '[^0-9]', '', 'g'), $1) > 0
"""
"""Of provider phones that have these digits. They are kept as they were sent, customer phones as normalized."""

FORGET: Final = f"DELETE FROM {TABLE} WHERE customer_phone = $1 OR provider_phone = ANY($2) RETURNING call_id"

PRUNE: Final = f"""
DELETE FROM {TABLE} WHERE id IN (SELECT id FROM {TABLE} WHERE created_at < $1 LIMIT {PRUNED_AT_ONCE})
"""


class ArchivedEntry(msgspec.Struct, frozen=True):
    """Where a call stands in the list of its number's calls."""

    updated_at_ms: int
    call_id: bytes


class ArchivedEntries(msgspec.Struct, frozen=True):
    entries: list[ArchivedEntry]
    """Newest first; for the same time, the greater id first."""
    count: int
    """How many archived calls the number has, without those that were left out."""


class Archive:
    """Everything done to the archive.

    Every method raises ArchiveUnavailableError when PostgreSQL does not answer by ``deadline`` (``time.monotonic``).
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self.pool = PostgresPool(settings.database_url.reveal())
        self._retention_days = settings.archive_retention_days
        self._retention_ms = settings.archive_retention_days * 86_400_000
        self._pause_until: float | None = None
        """None while reads succeed."""
        self._is_tried_again = False

    async def write(
        self,
        changes: Sequence[StampedCall],
        deletions: Mapping[bytes, int],
        *,
        deadline: float | None = None,
    ) -> WriteResult:
        """Merge records into their rows, and delete rows. Large records are written in several transactions.

        ``deletions`` says when each deleted call was deleted, in ms. Messages stamped before a deletion, or before
        ``forget``, do not bring back what it erased. A write that raises may be repeated as a whole.
        """
        failed: dict[bytes, str] = {}
        for part in split_by_size(changes) or ([()] if deletions else []):
            until = deadline or time.monotonic() + WRITE_TIMEOUT_S + WRITE_S_PER_BYTE * sum(
                each.size_bytes for each in part
            )
            async with self.pool.transaction(until) as connection:
                failed |= (await write_rows(connection, part, deletions, self._retention_ms)).failed
            deletions = {}  # they are noted by now, and the other parts obey them
        return WriteResult(failed)

    async def find(
        self, call_id: bytes, large: tuple[str, ...] = LARGE_FACTS, *, deadline: float
    ) -> StampedCall | None:
        """The call with the named large facts, and never with its raw payload."""
        found = await self.find_many([call_id], large, deadline=deadline)
        return found.get(call_id)

    async def find_many(
        self, call_ids: Sequence[bytes], large: tuple[str, ...], *, deadline: float
    ) -> dict[bytes, StampedCall]:
        """Those of the calls that are archived, by their ids. A row that somebody made unreadable is left out."""
        query = f"""
            SELECT row_to_json(found)::text
            FROM (SELECT {selected(large, with_raw=False)} FROM {TABLE} WHERE call_id = ANY($1)) AS found
        """
        async with self._reading(deadline) as connection:
            rows = await connection.fetch(query, [call_id.decode() for call_id in call_ids])
        calls = map(self._decode, rows)
        return {stamped.call.call_id: stamped for stamped in calls if stamped is not None}

    async def find_entries(
        self, phone: str, *, offset: int, limit: int, without: Sequence[bytes] = (), deadline: float
    ) -> ArchivedEntries:
        """A part of the list of a number's calls, without the named ones."""
        customer_phone = normalize_phone(phone).replace("\0", "\ufffd")
        left_out = [call_id.decode() for call_id in without]
        async with self._reading(deadline) as connection:
            count = await connection.fetchval(
                f"""
                SELECT count(*) - (SELECT count(*) FROM {TABLE} WHERE customer_phone = $1 AND call_id = ANY($2))
                FROM {TABLE} WHERE customer_phone = $1
                """,
                customer_phone,
                left_out,
            )
            entries = await connection.fetch(
                f"""
                SELECT round(extract(epoch FROM updated_at) * 1000)::bigint, call_id FROM {TABLE}
                WHERE customer_phone = $1 AND call_id <> ALL ($2)
                ORDER BY updated_at DESC, call_id DESC OFFSET $3 LIMIT $4
                """,
                customer_phone,
                left_out,
                offset,
                limit,
            )
        return ArchivedEntries([ArchivedEntry(moment, call_id.encode()) for moment, call_id in entries], count)

    async def forget(self, phone: str, *, now_ms: int, deadline: float | None = None) -> list[bytes]:
        """Erase the rows of a number, its ``customer_phone`` or ``provider_phone``; returns the ids of their calls.

        For 30 days ``write`` takes no earlier message of the number. Forgetting and writing wait for each other. Without
        a deadline it takes 5 minutes at most.
        """
        number = normalize_phone(phone).replace("\0", "\ufffd")
        async with self.pool.transaction(deadline or time.monotonic() + FORGET_TIMEOUT_S) as connection:
            await connection.execute(TAKE_LOCKS, LOCK, list(range(LOCKS)))
            await connection.execute(
                """
                INSERT INTO vapi_forgotten_phones AS noted (phone_sha256, forgotten_at)
                VALUES ($1, to_timestamp($2::bigint / 1000.0))
                ON CONFLICT (phone_sha256) DO UPDATE SET forgotten_at = GREATEST(noted.forgotten_at, excluded.forgotten_at)
                """,
                digest_of_phone(number),
                now_ms,
            )
            spellings = await connection.fetch(FIND_SPELLINGS, re.sub("[^0-9]", "", number))
            same = [spelling for (spelling,) in spellings if normalize_phone(spelling) == number]
            rows = await connection.fetch(FORGET, number, same)
        return [call_id.encode() for (call_id,) in rows]

    async def prune(self, older_than_days: int, *, deadline: float | None = None) -> int:
        """Remove at most 1,000 rows of calls whose records began so many days ago, and old erasures; returns how many rows."""
        async with self.pool.transaction(deadline or time.monotonic() + WRITE_TIMEOUT_S) as connection:
            moment = await connection.fetchval("SELECT now()")
            kept_from = moment - timedelta(days=max(ERASURES_KEPT_DAYS, older_than_days))
            await connection.execute("DELETE FROM vapi_call_deletions WHERE deleted_at < $1", kept_from)
            forgotten_from = moment - timedelta(days=ERASURES_KEPT_DAYS)
            await connection.execute("DELETE FROM vapi_forgotten_phones WHERE forgotten_at < $1", forgotten_from)
            done = await connection.execute(PRUNE, moment - timedelta(days=older_than_days))
        return int(done.split()[-1])

    async def export(self, first_day: date, last_day: date) -> AsyncIterator[StampedCall]:
        """All calls whose records began on these days (UTC, both included), oldest first, as they are at this moment."""
        query = f"""
            DECLARE exported NO SCROLL CURSOR FOR SELECT row_to_json(found)::text
            FROM (SELECT {selected(with_raw=False)} FROM {TABLE}
                WHERE {TABLE}.created_at >= '{first_day}T00:00:00Z'
                AND {TABLE}.created_at < '{last_day + timedelta(days=1)}T00:00:00Z'
                ORDER BY {TABLE}.created_at, {TABLE}.call_id) AS found
        """
        async with self.pool.transaction(time.monotonic() + EXPORT_TIMEOUT_S, reads_only=True) as connection:
            await connection.execute(query)
            while rows := await connection.fetch(f"FETCH {ROWS_AT_ONCE} FROM exported"):
                for row in rows:
                    if (stamped := self._decode(row)) is not None:
                        yield stamped

    async def find_problem(self, deadline: float) -> str | None:
        """Why the archive cannot be used, for operators; None when it can."""
        try:
            async with self.pool.transaction(deadline, reads_only=True) as connection:
                await connection.fetchval(f"SELECT version FROM {TABLE} LIMIT 1")
        except ArchiveUnavailableError as exc:
            return exc.reason
        return None

    def _decode(self, row: Sequence[str]) -> StampedCall | None:
        try:
            return decode_row(row[0], self._retention_ms)
        except UNREADABLE as exc:
            log.warning("archive.row_unreadable", reason=type(exc).__name__)
            return None

    @asynccontextmanager
    async def _reading(self, deadline: float) -> AsyncIterator[Any]:
        tries_again = self._pause_until is not None
        if self._is_tried_again or (self._pause_until is not None and time.monotonic() < self._pause_until):
            raise ArchiveUnavailableError("The archive does not answer", reason="it failed a moment ago")
        self._is_tried_again = tries_again
        try:
            async with self.pool.transaction(deadline, reads_only=True) as connection:
                yield connection
            self._pause_until = None
        except ArchiveUnavailableError:
            self._pause_until = time.monotonic() + random.uniform(*PAUSE_AFTER_FAILURE_S)  # noqa: S311 - spreads load
            raise
        finally:
            if tries_again:
                self._is_tried_again = False

    async def close(self) -> None:
        await self.pool.close()
