"""The spool's file: durable by SQLite's own account, bounded, shared by processes, and honest when its disk fails."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.spool_file import FILE_NAME, Held, SpooledChange, SpoolFile
from tests.support.replica import ROOT

MAX_BYTES = 1000
LEASE_MS = 10_000
FULL = 2
"""What ``PRAGMA synchronous`` answers for FULL: each commit of the write-ahead log is synced."""

OPEN_IT = "import sys, pathlib, service.store.spool_file as f; f.SpoolFile(pathlib.Path(sys.argv[1]), 1000).close()"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpoolFile]:
    file = SpoolFile(tmp_path, MAX_BYTES)
    yield file
    file.close()


@pytest.fixture
def other(file: SpoolFile, tmp_path: Path) -> Iterator[SpoolFile]:
    """The same file, as another process has it."""
    other = SpoolFile(tmp_path, MAX_BYTES)
    yield other
    other.close()


def put(file: SpoolFile, *call_ids: str) -> None:
    file.put([(call_id, b"change of " + call_id.encode()) for call_id in call_ids], 1)


def call_ids_of(changes: list[SpooledChange]) -> list[str]:
    return [change.call_id for change in changes]


def test_a_commit_is_synced_before_it_returns(file: SpoolFile, other: SpoolFile) -> None:
    for connection in (file._database, other._database):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (FULL,)


def test_what_was_put_is_there_for_others_and_after_opening_again(
    file: SpoolFile, other: SpoolFile, tmp_path: Path
) -> None:
    file.put([("call-1", b"one"), ("call-2", b"two!")], 1_788_264_000_000)
    assert other.held() == Held(bytes=7, waiting=2, rejected=0)
    file.close()
    again = SpoolFile(tmp_path, MAX_BYTES)
    kept = [(change.call_id, change.spooled_at_ms, change.change, change.rejected) for change in again.list()]
    assert kept == [("call-1", 1_788_264_000_000, b"one", None), ("call-2", 1_788_264_000_000, b"two!", None)]
    again.close()


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    SpoolFile(tmp_path / "a" / "b", MAX_BYTES).close()
    assert (tmp_path / "a" / "b" / FILE_NAME).exists()


def test_processes_that_start_at_once_all_get_the_file_open(tmp_path: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", OPEN_IT, str(tmp_path)], cwd=ROOT) for _ in range(4)]
    assert [process.wait(120) for process in started] == [0, 0, 0, 0]


def test_what_would_take_it_over_its_bound_is_refused_and_leaves_nothing(file: SpoolFile) -> None:
    file.put([("call-1", b"x" * 990)], 1)
    assert file.put([("call-2", b"y" * 11)], 1) == [False]
    assert call_ids_of(file.list()) == ["call-1"]
    file.put([("call-3", b"z" * 10)], 1)
    assert file.held() == Held(bytes=MAX_BYTES, waiting=2, rejected=0)


def test_removing_makes_room_again(file: SpoolFile) -> None:
    file.put([("call-1", b"x" * MAX_BYTES)], 1)
    assert file.remove([change.id for change in file.list()]) == 1
    file.put([("call-2", b"y" * MAX_BYTES)], 1)
    assert file.held().waiting == 1


def test_an_empty_spool_gives_its_space_back(tmp_path: Path) -> None:
    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob(FILE_NAME + "*") if not path.name.endswith("-shm"))

    file = SpoolFile(tmp_path, 10_000_000)
    file.put([(f"call-{number}", b"x" * 50_000) for number in range(40)], 1)
    assert size() > 2_000_000
    file.remove([change.id for change in file.list()])
    assert size() < 100_000
    file.close()


def test_removing_what_is_not_there_removes_nothing(file: SpoolFile) -> None:
    put(file, "call-1")
    assert file.remove([]) == 0
    assert file.remove([77]) == 0
    assert file.held().waiting == 1


def test_the_oldest_are_claimed_first(file: SpoolFile) -> None:
    put(file, *(f"call-{number}" for number in range(5)))
    assert call_ids_of(file.claim(2, 0, LEASE_MS)) == ["call-0", "call-1"]
    assert call_ids_of(file.claim(9, 0, LEASE_MS)) == ["call-2", "call-3", "call-4"]


def test_a_claim_keeps_others_away_until_its_lease_is_over(file: SpoolFile, other: SpoolFile) -> None:
    put(file, "call-1")
    assert call_ids_of(file.claim(9, 1000, LEASE_MS)) == ["call-1"]
    assert other.claim(9, 1000 + LEASE_MS - 1, LEASE_MS) == []
    assert call_ids_of(other.claim(9, 1000 + LEASE_MS, LEASE_MS)) == ["call-1"]


def test_what_is_released_is_free_at_once(file: SpoolFile, other: SpoolFile) -> None:
    put(file, "call-1", "call-2")
    first, _ = file.claim(9, 0, LEASE_MS)
    file.release([first.id])
    assert call_ids_of(other.claim(9, 1, LEASE_MS)) == ["call-1"]


def test_what_was_rejected_is_kept_counted_and_never_claimed(file: SpoolFile) -> None:
    put(file, "call-1", "call-2")
    file.reject(1, "never")
    file.reject(1, "never, once more")
    assert (file.held().waiting, file.held().rejected) == (1, 1)
    assert call_ids_of(file.claim(9, 0, LEASE_MS)) == ["call-2"]
    assert [change.rejected for change in file.list()] == ["never, once more", None]
    file.remove([1, 2])
    assert file.held() == Held(bytes=0, waiting=0, rejected=0)


def test_a_number_is_never_used_twice(file: SpoolFile) -> None:
    put(file, "call-1")
    file.remove([1])
    put(file, "call-2")
    assert [change.id for change in file.list()] == [2]


def test_a_put_waits_for_anothers_commit_only_so_long(file: SpoolFile, tmp_path: Path) -> None:
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        put(file, "call-1")
    blocker.execute("ROLLBACK")
    put(file, "call-2")
    blocker.close()
    assert call_ids_of(file.list()) == ["call-2"]


def fill_disk(file: SpoolFile) -> None:
    """Have SQLite find no room for another page, as on a full disk."""
    pages = file._database.execute("PRAGMA page_count").fetchone()[0]
    file._database.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def test_a_full_disk_is_an_error_and_what_was_kept_before_stays(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, 10_000_000)
    put(file, "call-1")
    fill_disk(file)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        file.put([("call-2", b"x" * 100_000)], 1)
    file._database.execute("PRAGMA max_page_count = 1000000").fetchall()
    file.put([("call-3", b"x" * 100_000)], 1)
    assert call_ids_of(file.list()) == ["call-1", "call-3"]
    assert file.held().waiting == 2
    file.close()
