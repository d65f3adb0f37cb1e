"""Writes the changes that this process has read from the streams: reads the records, writes rows, ends the entries."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog

from service.archive.database import Archive
from service.calls.stamped_call import StampedCall
from service.errors import ArchiveUnavailableError, StoreUnavailableError
from service.store.archive_stream import ArchiveEntry, ArchiveStream
from service.store.calls import CallStore
from service.store.keys import bucket_of

log = structlog.get_logger(__name__)

BATCH_ENTRIES: Final = 50
"""Encoding a row takes about 30 us, in which no request is answered."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""A report has 23 kB, and 10 MB at most."""

RECORDS_AT_ONCE: Final = 16
"""Records read at once. Each may have 10 MB."""


class _Batch(msgspec.Struct):
    """What is written in one transaction, and the entries that it ends."""

    changes: list[StampedCall] = []
    deletions: dict[bytes, int] = {}
    entries: list[ArchiveEntry] = []
    size_bytes: int = 0

    def add(self, entries: Sequence[ArchiveEntry], call: StampedCall | None) -> None:
        self.entries += entries
        if call is not None:
            self.changes.append(call)
            self.size_bytes += call.size_bytes
        for entry in entries:
            if entry.deleted_at_ms:
                self.deletions[entry.call_id] = max(entry.deleted_at_ms, self.deletions.get(entry.call_id, 0))


class ArchiveBatches:
    """Holds what was read and not written yet.

    Args:
        on_written: called with how many calls became rows or were deleted.
        on_set_aside: called with how many calls PostgreSQL refused.
    """

    def __init__(
        self,
        archive: Archive,
        stream: ArchiveStream,
        calls: CallStore,
        *,
        on_written: Callable[[int], None],
        on_set_aside: Callable[[int], None],
    ) -> None:
        self._archive = archive
        self._stream = stream
        self._calls = calls
        self._on_written = on_written
        self._on_set_aside = on_set_aside
        self._unwritten: dict[tuple[bytes, bytes], ArchiveEntry] = {}
        """By call and entry: this process reads an entry twice if another one took it over in between."""

    def __len__(self) -> int:
        return len(self._unwritten)

    def add(self, entries: Sequence[ArchiveEntry]) -> None:
        for entry in entries:
            self._unwritten[entry.call_id, entry.id] = entry

    async def write_some(self) -> None:
        """Write up to BATCH_ENTRIES entries. Those whose record Redis does not give now are taken over later, by any process.

        Raises:
            ArchiveUnavailableError: the entries are kept.
        """
        by_call: dict[bytes, list[ArchiveEntry]] = defaultdict(list)
        for entry in islice(self._unwritten.values(), BATCH_ENTRIES):
            by_call[entry.call_id].append(entry)
        batch, call_ids = _Batch(), list(by_call)
        for start in range(0, len(call_ids), RECORDS_AT_ONCE):
            some = call_ids[start : start + RECORDS_AT_ONCE]
            for call_id, found in zip(some, await self._find(some), strict=True):
                if isinstance(found, StoreUnavailableError):
                    self._drop(by_call[call_id])
                else:
                    batch.add(by_call[call_id], found)
            if batch.size_bytes >= BATCH_BYTES:
                await self._write(batch)
                batch = _Batch()
        await self._write(batch)

    async def _find(self, call_ids: Sequence[bytes]) -> list[StampedCall | StoreUnavailableError | None]:
        """None for a record that is gone: deleted, given up, or expired once another process had written it."""
        return await asyncio.gather(*map(self._find_one, call_ids))

    async def _find_one(self, call_id: bytes) -> StampedCall | StoreUnavailableError | None:
        try:
            return await self._calls.find_stamped(call_id)
        except StoreUnavailableError as exc:
            return exc
        except (ValueError, LookupError, msgspec.MsgspecError):
            log.exception("archive.record_unreadable", call_id=call_id.decode(errors="replace"))
            await self._set_aside({call_id: "its record in Redis is damaged"})
            return None

    async def _write(self, batch: _Batch) -> None:
        failed = await self._write_rows(batch.changes, batch.deletions)
        if failed:
            await self._set_aside(failed)
        self._on_written(len({call.call.call_id for call in batch.changes} | batch.deletions.keys()) - len(failed))
        by_bucket: dict[int, list[ArchiveEntry]] = defaultdict(list)
        for entry in batch.entries:
            by_bucket[bucket_of(entry.call_id)].append(entry)
        ending = (self._stream.end(bucket, entries) for bucket, entries in by_bucket.items())
        for outcome in await asyncio.gather(*ending, return_exceptions=True):
            # Entries that are not ended are taken over and written again, which changes nothing.
            if isinstance(outcome, BaseException) and not isinstance(outcome, StoreUnavailableError):
                raise outcome
        self._drop(batch.entries)

    async def _write_rows(self, changes: Sequence[StampedCall], deletions: dict[bytes, int]) -> dict[bytes, str]:
        """The calls that cannot be written, each with the reason, including those on which our own code fails."""
        try:
            return (await self._archive.write(changes, deletions)).failed
        except ArchiveUnavailableError:
            raise
        except Exception as exc:
            if len(changes) <= 1:
                log.exception("archive.write_broke")
                names = [*deletions, *(change.call.call_id for change in changes)]
                return dict.fromkeys(names, type(exc).__name__)
        # The deletions first: a call that is in both parts was deleted, and began anew.
        failed = await self._write_rows((), deletions)
        half = len(changes) // 2
        for part in (changes[:half], changes[half:]):
            failed |= await self._write_rows(part, {})
        return failed

    async def _set_aside(self, failed: dict[bytes, str]) -> None:
        self._on_set_aside(len(failed))
        for call_id, reason in failed.items():
            log.error("archive.call_set_aside", call_id=call_id.decode(errors="replace"), reason=reason)
        try:
            await self._stream.set_aside(failed)
        except StoreUnavailableError:
            log.debug("archive.set_aside_not_listed")

    def _drop(self, entries: Sequence[ArchiveEntry]) -> None:
        for entry in entries:
            self._unwritten.pop((entry.call_id, entry.id), None)
