"""Opens the spool's database: creates or upgrades its schema, waits for its lock, hides it from other users."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

OPEN_WAIT_S: Final = 10.0
"""How long a start waits for the file: another process may be draining, migrating or recovering it."""

RETRY_S: Final = 0.05
"""SQLite reports some locks at once, without waiting: switching to WAL is one
(https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode)."""

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
OTHERS: Final = 0o077

SCHEMA_VERSION: Final = 1
"""Version 0.1.0 wrote schema 0, which had no buckets. Its processes may use the same file: they leave ``bucket`` NULL."""

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS spooled (
        id INTEGER PRIMARY KEY AUTOINCREMENT, call_id TEXT NOT NULL, spooled_at_ms INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL, claimed_until_ms INTEGER NOT NULL DEFAULT 0, rejected TEXT)""",
    # Bodies are in their own table, so that claiming a row does not rewrite its body.
    "CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, change BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS held (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL,
        waiting INTEGER NOT NULL, rejected INTEGER NOT NULL)""",
    "INSERT OR IGNORE INTO held VALUES (1, 0, 0, 0)",
    """CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON spooled BEGIN
        UPDATE held SET bytes = bytes + new.size_bytes, waiting = waiting + 1; END""",
    """CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON spooled BEGIN
        DELETE FROM changes WHERE id = old.id;
        UPDATE held SET bytes = bytes - old.size_bytes, waiting = waiting - (old.rejected IS NULL),
            rejected = rejected - (old.rejected IS NOT NULL); END""",
    """CREATE TRIGGER IF NOT EXISTS set_aside AFTER UPDATE OF rejected ON spooled WHEN old.rejected IS NULL BEGIN
        UPDATE held SET waiting = waiting - 1, rejected = rejected + 1; END""",
)

_BUCKETS: Final = (
    "ALTER TABLE spooled ADD COLUMN bucket INTEGER",
    # Sorted by the time from which a change may be claimed. A change that was never tried has 0 and comes first.
    "CREATE INDEX due ON spooled (bucket, claimed_until_ms) WHERE rejected IS NULL",
    "CREATE INDEX without_bucket ON spooled (id) WHERE bucket IS NULL",
    "DROP INDEX IF EXISTS waiting",
    """CREATE TRIGGER taken_up_again AFTER UPDATE OF rejected ON spooled
        WHEN old.rejected IS NOT NULL AND new.rejected IS NULL BEGIN
        UPDATE held SET waiting = waiting + 1, rejected = rejected - 1; END""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Transaction:
    """``BEGIN IMMEDIATE`` takes the write lock at once: upgrading a read lock later could fail without waiting."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._database.execute("COMMIT")
        elif self._database.in_transaction:  # a full disk makes SQLite roll back by itself
            self._database.execute("ROLLBACK")


def open_database(path: Path, *, lock_wait_s: float) -> sqlite3.Connection:
    """The database, with today's schema. Waits up to OPEN_WAIT_S for its lock, and later up to ``lock_wait_s``.

    Raises:
        OSError, sqlite3.Error: it cannot be used.
    """
    _make_private(path)
    database = sqlite3.connect(path, timeout=OPEN_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        _wait_for_lock(lambda: _prepare(database))
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA busy_timeout = {round(lock_wait_s * 1000)}")
    except BaseException:
        database.close()
        raise
    return database


def is_open_to_others(folder: Path) -> bool:
    """Whether other users of this machine have any right on the folder; its files hold personal data."""
    return bool(folder.stat().st_mode & OTHERS)


def _make_private(path: Path) -> None:
    """SQLite creates ``-wal`` and ``-shm`` with the file's own mode. Files of version 0.1.0 are corrected here."""
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError, PermissionError):  # not there, or another user's
            path.with_name(path.name + suffix).chmod(PRIVATE_FILE)


def _wait_for_lock(work: Callable[[], None]) -> None:
    deadline = time.monotonic() + OPEN_WAIT_S
    while True:
        try:
            return work()
        except sqlite3.OperationalError as exc:
            is_locked = exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_locked or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _prepare(database: sqlite3.Connection) -> None:
    if _version_of(database) >= SCHEMA_VERSION:
        return
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute("PRAGMA journal_mode = WAL")
    with Transaction(database):
        if _version_of(database) >= SCHEMA_VERSION:
            return  # another process was faster
        for statement in (*_TABLES, *_BUCKETS):
            database.execute(statement)


def _version_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
