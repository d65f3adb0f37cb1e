"""The spool's file: changes that Redis could not take, in an SQLite database, each fsynced before it counts as kept.

SQLite because its durability is better tested than anything we would write: with a write-ahead log and
``synchronous=FULL`` a commit returns once the log is on the disk, and the folder's entry for a new log is synced too
(https://www.sqlite.org/pragma.html#pragma_synchronous). Several processes may use one file.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from service.store.keys import BUCKETS, bucket_of
from service.store.spool_database import Transaction, open_database

FILE_NAME: Final = "spool.sqlite3"

LOCK_WAIT_S: Final = 0.5
"""How long one process waits for another's commit. A webhook's answer may wait that long, too."""

DISK_RESERVE_BYTES: Final = 16 * 1024 * 1024
"""Left free on the disk: draining writes too, and a spool on a full disk could never be emptied."""

SORT_AT_ONCE: Final = 1000
"""How many rows of version 0.1.0 one claim sorts, in about 2 ms: a webhook's put may wait behind it."""

ALL_BUCKETS: Final = range(BUCKETS)


class SpooledChange(msgspec.Struct, frozen=True):
    """One change in the spool."""

    id: int
    call_id: str
    spooled_at_ms: int
    change: bytes
    rejected: str | None = None
    """Why it can never be applied; None while it waits."""


class Held(msgspec.Struct, frozen=True):
    """The size of the spool."""

    bytes: int
    waiting: int
    rejected: int


class SpoolFile:
    """Blocking. Every method is one transaction.

    Raises (from every method):
        sqlite3.Error: the disk is full or fails, or another process locks the file for too long.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._folder = folder
        self._path = folder / FILE_NAME
        self._database = open_database(self._path, lock_wait_s=LOCK_WAIT_S)
        self._inode = self._path.stat().st_ino

    def close(self) -> None:
        self._database.close()

    def put(self, changes: Sequence[tuple[str, bytes]], now_ms: int) -> list[bool]:
        """Keep these (call id, change) while there is room. True for each that is kept: it is on the disk by then."""
        self._check_still_there()
        kept: list[bool] = []
        free = shutil.disk_usage(self._folder).free - DISK_RESERVE_BYTES
        with self._transaction():
            held = self.held().bytes
            for call_id, change in changes:
                fits = held + len(change) <= self._max_bytes and len(change) <= free
                kept.append(fits)
                if fits:
                    self._insert(call_id, change, now_ms)
                    held += len(change)
                    free -= len(change)
        return kept

    def claim(
        self,
        limit: int,
        now_ms: int,
        lease_ms: int,
        buckets: Collection[int] = ALL_BUCKETS,
        *,
        per_bucket: int | None = None,
    ) -> list[SpooledChange]:
        """Claim free changes of these buckets for ``lease_ms``; no other claim gets them in that time.

        Changes that were never tried come first, oldest first; then those whose pause ended first. Changes in other
        buckets cost nothing.
        """
        with self._transaction():
            self._sort_into_buckets()
            due = [row for bucket in buckets for row in self._due(bucket, now_ms, lease_ms, per_bucket or limit)]
            ids = sorted(spooled_id for _, spooled_id in sorted(due)[:limit])
            self._set_claims((spooled_id, now_ms + lease_ms) for spooled_id in ids)
            return [self._read(spooled_id) for spooled_id in ids]

    def release(self, ids: Iterable[int]) -> None:
        """Give up the claims on these ids; others may claim them at once."""
        self.postpone((spooled_id, 0) for spooled_id in ids)

    def postpone(self, until_ms: Iterable[tuple[int, int]]) -> None:
        """Give up the claims on these ids; each may be claimed again from its time (epoch ms) on."""
        with self._transaction():
            self._set_claims(until_ms)

    def reject(self, spooled_id: int, reason: str) -> None:
        """Set aside a change that can never be applied."""
        with self._transaction():
            self._database.execute("UPDATE spooled SET rejected = ? WHERE id = ?", (reason, spooled_id))

    def take_up_again(self, ids: Sequence[int]) -> int:
        """Put changes that were set aside back in the queue; returns how many that were."""
        with self._transaction():
            return self._database.executemany(
                "UPDATE spooled SET rejected = NULL, claimed_until_ms = 0 WHERE id = ? AND rejected IS NOT NULL",
                [(one,) for one in ids],
            ).rowcount

    def remove(self, ids: Sequence[int]) -> int:
        """Delete these; returns how many there were. An empty spool returns its space to the disk."""
        with self._transaction():
            cursor = self._database.executemany("DELETE FROM spooled WHERE id = ?", [(one,) for one in ids])
        held = self.held()
        if held.waiting + held.rejected == 0:
            self._database.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
        return cursor.rowcount

    def held(self) -> Held:
        return Held(*self._database.execute("SELECT bytes, waiting, rejected FROM held").fetchone())

    def list(self) -> list[SpooledChange]:
        """Everything, oldest first."""
        return [
            self._read(spooled_id) for (spooled_id,) in self._database.execute("SELECT id FROM spooled ORDER BY id")
        ]

    def _insert(self, call_id: str, change: bytes, now_ms: int) -> None:
        cursor = self._database.execute(
            "INSERT INTO spooled (call_id, spooled_at_ms, size_bytes, bucket) VALUES (?, ?, ?, ?)",
            (call_id, now_ms, len(change), bucket_of(call_id.encode())),
        )
        self._database.execute("INSERT INTO changes VALUES (?, ?)", (cursor.lastrowid, change))

    def _sort_into_buckets(self) -> None:
        """Fill in the buckets that a process of version 0.1.0, which may share the file, left NULL."""
        rows = self._database.execute("SELECT call_id, id FROM spooled WHERE bucket IS NULL LIMIT ?", (SORT_AT_ONCE,))
        sorted_rows = [(bucket_of(call_id.encode()), spooled_id) for call_id, spooled_id in rows.fetchall()]
        self._database.executemany("UPDATE spooled SET bucket = ? WHERE id = ?", sorted_rows)

    def _due(self, bucket: int, now_ms: int, lease_ms: int, limit: int) -> Sequence[tuple[int, int]]:
        """(claimed until, id) of changes that may be claimed, longest claimable first."""
        due = "SELECT claimed_until_ms, id FROM spooled WHERE rejected IS NULL AND bucket = ? AND claimed_until_ms"
        rows = self._database.execute(f"{due} <= ? ORDER BY claimed_until_ms, id LIMIT ?", (bucket, now_ms, limit))
        # A claim that ends more than two leases from now was made before the clock was set back.
        strays = self._database.execute(f"{due} > ? LIMIT ?", (bucket, now_ms + 2 * lease_ms, limit))
        return [*rows, *strays]

    def _set_claims(self, until_ms: Iterable[tuple[int, int]]) -> None:
        self._database.executemany(
            "UPDATE spooled SET claimed_until_ms = ? WHERE id = ?", [(moment, one) for one, moment in until_ms]
        )

    def _read(self, spooled_id: int) -> SpooledChange:
        row = self._database.execute(
            "SELECT id, call_id, spooled_at_ms, change, rejected FROM spooled JOIN changes USING (id) WHERE id = ?",
            (spooled_id,),
        ).fetchone()
        return SpooledChange(*row)

    def _check_still_there(self) -> None:
        """SQLite would go on writing into a removed file, and its changes would be lost when the process ends."""
        try:
            is_there = self._path.stat().st_ino == self._inode
        except OSError:
            is_there = False
        if not is_there:
            raise sqlite3.OperationalError("the spool's file was removed while it was in use")

    def _transaction(self) -> Transaction:
        return Transaction(self._database)
