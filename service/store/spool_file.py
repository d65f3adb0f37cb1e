"""The spool's file: changes that Redis could not take, in an SQLite database, each fsynced before it counts as kept.

SQLite because its durability is better tested than anything we would write: with a write-ahead log and
``synchronous=FULL`` a commit returns once the log is on the disk, and the folder's entry for a new log is synced too
(https://www.sqlite.org/pragma.html#pragma_synchronous). Several processes may use one file.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "spool.sqlite3"

LOCK_WAIT_S: Final = 0.5
"""How long one process waits for another's commit; a webhook's answer waits with it."""

DISK_RESERVE_BYTES: Final = 16 * 1024 * 1024
"""Left free on the disk: draining writes too, and a spool on a full disk could never be emptied."""

_SCHEMA: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS spooled (
    id INTEGER PRIMARY KEY AUTOINCREMENT, call_id TEXT NOT NULL, spooled_at_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, claimed_until_ms INTEGER NOT NULL DEFAULT 0, rejected TEXT);
CREATE INDEX IF NOT EXISTS waiting ON spooled (id) WHERE rejected IS NULL;
CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, change BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS held (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL,
    waiting INTEGER NOT NULL, rejected INTEGER NOT NULL);
INSERT OR IGNORE INTO held VALUES (1, 0, 0, 0);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON spooled BEGIN
    UPDATE held SET bytes = bytes + new.size_bytes, waiting = waiting + 1; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON spooled BEGIN
    DELETE FROM changes WHERE id = old.id;
    UPDATE held SET bytes = bytes - old.size_bytes, waiting = waiting - (old.rejected IS NULL),
        rejected = rejected - (old.rejected IS NOT NULL); END;
CREATE TRIGGER IF NOT EXISTS set_aside AFTER UPDATE OF rejected ON spooled WHEN old.rejected IS NULL BEGIN
    UPDATE held SET waiting = waiting - 1, rejected = rejected + 1; END;
"""
# The changes lie apart from their rows: to claim one must not mean to write all of it anew.


class SpooledChange(msgspec.Struct, frozen=True):
    """One change in the spool."""

    id: int
    call_id: str
    spooled_at_ms: int
    change: bytes
    rejected: str | None = None
    """Why it can never be applied; None while it waits."""


class Held(msgspec.Struct, frozen=True):
    """What the spool holds."""

    bytes: int
    waiting: int
    rejected: int


class SpoolFile:
    """Blocking; every method is one transaction.

    Raises (from every method):
        sqlite3.Error: the disk is full, fails, or somebody else holds the file for too long.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        self._database = sqlite3.connect(self._path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self._database.execute("PRAGMA synchronous = FULL")
        self._inode = self._path.stat().st_ino

    def close(self) -> None:
        self._database.close()

    def put(self, changes: Sequence[tuple[str, bytes]], now_ms: int) -> list[bool]:
        """Keep these (call id, change) as far as there is room; says which. Those are on the disk when this returns."""
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

    def claim(self, limit: int, now_ms: int, lease_ms: int) -> list[SpooledChange]:
        """The oldest that nobody else is at; nobody else gets them for ``lease_ms``."""
        with self._transaction():
            # A claim of more than two leases ahead is from before the clock was set back.
            ids = self._database.execute(
                "UPDATE spooled SET claimed_until_ms = ? WHERE id IN (SELECT id FROM spooled WHERE rejected IS NULL"
                " AND (claimed_until_ms <= ? OR claimed_until_ms > ?) ORDER BY id LIMIT ?) RETURNING id",
                (now_ms + lease_ms, now_ms, now_ms + 2 * lease_ms, limit),
            ).fetchall()
            return [self._read(spooled_id) for (spooled_id,) in sorted(ids)]

    def release(self, ids: Sequence[int]) -> None:
        """Let others claim them at once."""
        with self._transaction():
            self._database.executemany("UPDATE spooled SET claimed_until_ms = 0 WHERE id = ?", [(one,) for one in ids])

    def reject(self, spooled_id: int, reason: str) -> None:
        """Set aside what can never be applied, so that it blocks nothing."""
        with self._transaction():
            self._database.execute("UPDATE spooled SET rejected = ? WHERE id = ?", (reason, spooled_id))

    def remove(self, ids: Sequence[int]) -> int:
        """Forget them; returns how many there were. An empty spool gives its space back."""
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
            "INSERT INTO spooled (call_id, spooled_at_ms, size_bytes) VALUES (?, ?, ?)", (call_id, now_ms, len(change))
        )
        self._database.execute("INSERT INTO changes VALUES (?, ?)", (cursor.lastrowid, change))

    def _read(self, spooled_id: int) -> SpooledChange:
        row = self._database.execute(
            "SELECT id, call_id, spooled_at_ms, change, rejected FROM spooled JOIN changes USING (id) WHERE id = ?",
            (spooled_id,),
        ).fetchone()
        return SpooledChange(*row)

    def _check_still_there(self) -> None:
        """SQLite would go on writing into a file that somebody removed, and it would be gone with the process."""
        try:
            is_there = self._path.stat().st_ino == self._inode
        except OSError:
            is_there = False
        if not is_there:
            raise sqlite3.OperationalError("the spool's file was removed while it was in use")

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """``BEGIN IMMEDIATE`` takes the write lock at once: a later upgrade could fail without waiting."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._database.execute("COMMIT")
        elif self._database.in_transaction:  # a full disk makes SQLite roll back by itself
            self._database.execute("ROLLBACK")
