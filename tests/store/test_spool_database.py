"""Opening the spool: files of version 0.1.0, somebody who holds the lock, and who may read it."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from service.calls.stored_call import CallChange, Merged
from service.store.call_codec import encode_spooled
from service.store.keys import bucket_of
from service.store.spool import Spool
from service.store.spool_file import FILE_NAME, Held, SpoolFile
from tests.support.store_events import change

ROOMY = 10_000_000
MERGED = Merged(is_deleted=False, is_changed=True, became_final=None, became_complete=False)

FIRST_SCHEMA = """
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


class FirstVersion:
    """A process of version 0.1.0, with the statements that it ran."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / FILE_NAME, timeout=5, isolation_level=None)
        self._database.executescript(FIRST_SCHEMA)

    def put(self, *call_ids: str) -> None:
        for call_id in call_ids:
            packed = encode_spooled(change(call_id, status=1))
            self._database.execute("BEGIN IMMEDIATE")
            cursor = self._database.execute(
                "INSERT INTO spooled (call_id, spooled_at_ms, size_bytes) VALUES (?, ?, ?)", (call_id, 1, len(packed))
            )
            self._database.execute("INSERT INTO changes VALUES (?, ?)", (cursor.lastrowid, packed))
            self._database.execute("COMMIT")

    def claim(self, now_ms: int) -> list[str]:
        rows = self._database.execute(
            "UPDATE spooled SET claimed_until_ms = ? WHERE id IN (SELECT id FROM spooled WHERE rejected IS NULL"
            " AND (claimed_until_ms <= ? OR claimed_until_ms > ?) ORDER BY id LIMIT 64) RETURNING call_id",
            (now_ms + 10_000, now_ms, now_ms + 20_000),
        ).fetchall()
        return sorted(call_id for (call_id,) in rows)

    def remove(self, call_id: str) -> None:
        self._database.execute("DELETE FROM spooled WHERE call_id = ?", (call_id,))

    def reject(self, call_id: str) -> None:
        self._database.execute("UPDATE spooled SET rejected = 'never' WHERE call_id = ?", (call_id,))

    def close(self) -> None:
        self._database.close()


@pytest.fixture
def first_version(tmp_path: Path) -> Iterator[FirstVersion]:
    first_version = FirstVersion(tmp_path)
    yield first_version
    first_version.close()


async def drain(folder: Path) -> list[str]:
    taken: list[str] = []

    async def merge(one: CallChange) -> Merged:
        taken.append(one.call_id.decode())
        return MERGED

    spool = Spool(str(folder), ROOMY)
    await spool.drain_all(merge, lambda _: None)
    await spool.close()
    return taken


async def test_what_the_first_version_spooled_is_drained(first_version: FirstVersion, tmp_path: Path) -> None:
    call_ids = [f"call-{number}" for number in range(1500)]
    first_version.put(*call_ids)
    first_version.reject("call-7")
    first_version.close()

    assert sorted(await drain(tmp_path)) == sorted({*call_ids} - {"call-7"})


async def test_a_process_of_the_first_version_may_use_the_file_meanwhile(
    first_version: FirstVersion, tmp_path: Path
) -> None:
    first_version.put("old-1", "old-2")
    file = SpoolFile(tmp_path, ROOMY)
    file.put([("new-1", encode_spooled(change("new-1", status=1)))], 1)
    first_version.put("old-3")

    assert [one.call_id for one in file.claim(2, 1000, 10_000)] == ["old-1", "old-2"]
    assert first_version.claim(1001) == ["new-1", "old-3"], "what one has claimed the other leaves alone"
    assert file.claim(9, 1002, 10_000) == []
    first_version.remove("new-1")
    first_version.reject("old-3")
    assert (file.held().waiting, file.held().rejected) == (2, 1)
    again = FirstVersion(tmp_path)  # and one may start anew
    again.put("old-4")
    again.close()
    assert [one.call_id for one in file.claim(9, 1003, 10_000)] == ["old-4"]
    buckets = dict(file._database.execute("SELECT call_id, bucket FROM spooled").fetchall())
    assert buckets == {call_id: bucket_of(call_id.encode()) for call_id in ("old-1", "old-2", "old-3", "old-4")}
    file.close()


@pytest.mark.parametrize("is_there", [True, False], ids=["today's file", "a file of version 0.1.0"])
def test_a_start_waits_while_somebody_holds_the_lock(tmp_path: Path, *, is_there: bool) -> None:
    if is_there:
        SpoolFile(tmp_path, ROOMY).close()
    else:
        FirstVersion(tmp_path).close()
    holder = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(2.0, holder.execute, ("ROLLBACK",))
    release.start()

    file = SpoolFile(tmp_path, ROOMY)
    release.join()
    assert file.put([("call-1", b"x")], 1) == [True]
    assert file.held() == Held(bytes=1, waiting=1, rejected=0)
    file.close()
    holder.close()


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted(folder.iterdir())}


def test_only_the_service_s_own_user_may_read_the_files_and_the_folder_that_it_made(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    file = SpoolFile(folder, ROOMY)
    file.put([("call-1", b"x")], 1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes(folder) == dict.fromkeys((FILE_NAME, FILE_NAME + "-shm", FILE_NAME + "-wal"), 0o600)
    file.close()


def test_files_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    (first_version := FirstVersion(tmp_path)).put("call-1")
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    file = SpoolFile(tmp_path, ROOMY)
    assert set(modes(tmp_path).values()) == {0o600}
    file.close()
    first_version.close()


@pytest.mark.parametrize(("mode", "is_warned"), [(0o755, True), (0o750, True), (0o700, False)])
async def test_a_folder_that_others_may_read_is_warned_of(tmp_path: Path, mode: int, *, is_warned: bool) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    folder.chmod(mode)
    with structlog.testing.capture_logs() as logs:
        await Spool(str(folder), ROOMY).close()
    assert [line["event"] for line in logs] == ["spool.open_to_others"] * is_warned


def test_what_was_set_aside_can_wait_again(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, ROOMY)
    file.put([("call-1", b"1"), ("call-2", b"2"), ("call-3", b"3")], 1)
    for number in (1, 2):
        file.reject(number, "never")
    assert file.take_up_again([1, 3, 77]) == 1
    assert (file.held().waiting, file.held().rejected) == (2, 1)
    assert [one.call_id for one in file.claim(9, 0, 10_000)] == ["call-1", "call-3"]
    file.close()
