"""The spool beside the event loop: kept before it returns, drained oldest first, by one of many, nothing lost."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.calls.stored_call import CallChange, Merged
from service.errors import SettingsError, StoreRefusedError, StoreUnavailableError
from service.store.call_codec import UnreadableChangeError, decode_spooled, encode_spooled
from service.store.spool import PUT_TIMEOUT_S, Spool, SpoolUnavailableError
from service.store.spool_drain import DRAIN_BATCH
from service.store.spool_file import FILE_NAME, LOCK_WAIT_S, SpooledChange, SpoolFile
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.store_events import change

OpenSpool = Callable[..., Spool]

MERGED = Merged(is_deleted=False, is_changed=True, became_final=None, became_complete=False)
ROOMY = 10_000_000


class Redis:
    """Takes changes and remembers the order, unless told what to raise, for all calls or for one."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.raises: dict[str, Exception] = {}
        self.is_away = False
        self.pause_s = 0.0
        self.asked = 0

    async def merge(self, one: CallChange) -> Merged:
        call_id = one.call_id.decode()
        self.asked += 1
        await asyncio.sleep(self.pause_s)
        if self.is_away:
            raise StoreUnavailableError("away")
        if call_id in self.raises:
            raise self.raises[call_id]
        self.taken.append(call_id)
        return MERGED


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy disk takes half a second for a commit, during which nobody else gets at the file."""
    monkeypatch.setattr("service.store.spool.PUT_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr("service.store.spool_file.LOCK_WAIT_S", PATIENCE_S)


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[OpenSpool]:
    """Opens spools on one folder, each as a process of its own would."""
    opened: list[Spool] = []

    def open_one(max_bytes: int = ROOMY) -> Spool:
        opened.append(Spool(str(tmp_path), max_bytes))
        return opened[-1]

    yield open_one
    for spool in opened:
        await spool.close()


@pytest.fixture
def spool(open_spool: OpenSpool) -> Spool:
    return open_spool()


@pytest.fixture
def redis() -> Redis:
    return Redis()


def on_disk(folder: Path) -> list[SpooledChange]:
    """What another process finds in the folder."""
    file = SpoolFile(folder, ROOMY)
    try:
        return file.list()
    finally:
        file.close()


def commits(folder: Path) -> int:
    """How many transactions the write-ahead log holds (https://www.sqlite.org/fileformat.html#the_write_ahead_log)."""
    log, page_bytes = (folder / (FILE_NAME + "-wal")).read_bytes(), 4096
    return sum(log[start + 4 : start + 8] != b"\0\0\0\0" for start in range(32, len(log), 24 + page_bytes))


async def drained(spool: Spool, redis: Redis, *, waiting: int = 0) -> None:
    """Return when no more than that wait; what failed is tried again after a pause."""

    async def is_drained() -> bool:
        await spool.drain_some(redis.merge, lambda _: None)
        return spool.held.waiting <= waiting

    await eventually(is_drained)


async def put_all(spool: Spool, *call_ids: str) -> None:
    for call_id in call_ids:
        await spool.put(change(call_id, status=1))


def put_many(folder: Path, call_ids: list[str]) -> None:
    """In one write and without the deadline of a put, which a busy disk misses once in many."""
    file = SpoolFile(folder, ROOMY)
    file.put([(call_id, encode_spooled(change(call_id))) for call_id in call_ids], 1)
    file.close()


async def test_a_change_is_on_the_disk_whole_when_put_returns(spool: Spool, tmp_path: Path) -> None:
    one = change("call-1", rank=8, at_ms=5, status=6, ending=3, transcript='"Hello."', cost="0.1")
    await spool.put(one)
    assert [decode_spooled(spooled.change) for spooled in on_disk(tmp_path)] == [one]


def test_a_change_with_a_reason_that_is_no_text_is_unreadable() -> None:
    damaged = change("call-1", rank=8, status=6, ending=3, ended_reason="5")
    with pytest.raises(UnreadableChangeError):
        decode_spooled(encode_spooled(damaged))


async def test_concurrent_puts_share_commits(spool: Spool, tmp_path: Path) -> None:
    await spool.put(change("first"))
    before = commits(tmp_path)
    await asyncio.gather(*(spool.put(change(f"call-{number}")) for number in range(300)))
    assert len(on_disk(tmp_path)) == 301
    assert commits(tmp_path) - before <= 2


async def test_it_drains_oldest_first(spool: Spool, redis: Redis, tmp_path: Path) -> None:
    call_ids = [f"call-{number}" for number in range(DRAIN_BATCH + 10)]
    put_many(tmp_path, call_ids)
    seen: list[Merged] = []
    assert [await spool.drain_some(redis.merge, seen.append) for _ in range(3)] == [DRAIN_BATCH, 10, 0]
    assert redis.taken == call_ids
    assert len(seen) == len(call_ids)
    assert (spool.held.waiting, spool.held.bytes) == (0, 0)


async def test_what_redis_does_not_take_waits_and_is_drained_later(spool: Spool, redis: Redis) -> None:
    await put_all(spool, "call-1", "call-2")
    redis.is_away = True
    assert await spool.drain_some(redis.merge, print) == 0
    assert (spool.held.waiting, spool.held.rejected) == (2, 0)
    redis.is_away = False
    await drained(spool, redis)
    assert sorted(redis.taken) == ["call-1", "call-2"]


async def test_what_can_never_be_applied_is_set_aside_and_blocks_nothing(
    spool: Spool, redis: Redis, tmp_path: Path
) -> None:
    file = SpoolFile(tmp_path, ROOMY)
    file.put([("garbage", b"\xc1 no change")], 1)
    file.close()
    redis.raises["refused"] = StoreRefusedError("no")
    await put_all(spool, "refused", "good")
    assert await spool.drain_some(redis.merge, lambda _: None) == 3
    assert redis.taken == ["good"]
    assert (spool.held.waiting, spool.held.rejected) == (0, 2)
    rejected = {spooled.call_id: spooled.rejected for spooled in on_disk(tmp_path)}
    assert rejected["garbage"]
    assert rejected["refused"] == "no"


async def test_two_processes_drain_one_spool_without_double_work_or_loss(
    open_spool: OpenSpool, spool: Spool, redis: Redis, tmp_path: Path
) -> None:
    other = open_spool()
    call_ids = [f"call-{number}" for number in range(5 * DRAIN_BATCH)]
    put_many(tmp_path, call_ids)
    drained = {spool: 0, other: 0}

    async def drain(one: Spool) -> None:
        await one.drain_some(both_at_work, lambda _: None)
        while some := await one.drain_some(redis.merge, lambda _: None):
            drained[one] += some

    async def both_at_work(one: CallChange) -> Merged:
        merged = await redis.merge(one)
        await eventually(lambda: redis.asked == 2 * DRAIN_BATCH)
        return merged

    await asyncio.gather(drain(spool), drain(other))
    assert sorted(redis.taken) == sorted(call_ids)
    assert all(drained.values())


async def test_a_full_spool_refuses_and_has_room_again_after_draining(open_spool: OpenSpool, redis: Redis) -> None:
    size = len(encode_spooled(change("call-1", status=1)))
    spool = open_spool(max_bytes=2 * size)
    await put_all(spool, "call-1", "call-2")
    assert not spool.has_room
    with pytest.raises(SpoolUnavailableError, match="full"):
        await put_all(spool, "call-3")
    await spool.drain_some(redis.merge, lambda _: None)
    assert spool.has_room
    await put_all(spool, "call-4")
    assert redis.taken == ["call-1", "call-2"]


async def test_a_spool_that_had_to_refuse_says_that_it_has_no_room(open_spool: OpenSpool) -> None:
    size = len(encode_spooled(change("call-1", status=1)))
    spool = open_spool(max_bytes=2 * size + 1)
    await put_all(spool, "call-1", "call-2")
    with pytest.raises(SpoolUnavailableError):
        await put_all(spool, "call-3")
    assert not spool.has_room


async def test_what_there_is_room_for_is_kept_although_others_came_at_the_same_time(open_spool: OpenSpool) -> None:
    size = len(encode_spooled(change("call-1")))
    spool = open_spool(max_bytes=2 * size)
    answers = await asyncio.gather(
        *(spool.put(change(f"call-{number}")) for number in range(3)), return_exceptions=True
    )
    assert answers.count(None) == 2


async def test_a_file_that_somebody_else_holds_refuses_and_heals(
    open_spool: OpenSpool, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.spool_file.LOCK_WAIT_S", LOCK_WAIT_S)
    spool = open_spool()
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolUnavailableError, match="disk"):
        await put_all(spool, "call-1")
    await eventually(lambda: not spool.has_room)
    blocker.close()
    await put_all(spool, "call-2")
    await spool.drain_some(redis.merge, lambda _: None)
    assert redis.taken == ["call-2"]


async def test_a_disk_that_does_not_answer_in_time_refuses(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_all(spool, "call-1")
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    draining = asyncio.create_task(spool.drain_some(Redis().merge, print))
    monkeypatch.setattr("service.store.spool.PUT_TIMEOUT_S", PUT_TIMEOUT_S)
    with pytest.raises(SpoolUnavailableError, match="does not answer"):
        await put_all(spool, "call-2")
    blocker.close()
    assert await draining >= 1


async def test_a_webhook_whose_sender_went_away_takes_nobody_with_it(spool: Spool, tmp_path: Path) -> None:
    gone = asyncio.create_task(spool.put(change("call-1")))
    other = asyncio.create_task(spool.put(change("call-2")))
    await asyncio.sleep(0)
    gone.cancel()
    await other
    assert "call-2" in [spooled.call_id for spooled in on_disk(tmp_path)]


async def test_a_folder_that_was_removed_refuses(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "removed"), ROOMY)
    shutil.rmtree(tmp_path / "removed")
    try:
        with pytest.raises(SpoolUnavailableError):
            await put_all(spool, "call-1")
    finally:
        await spool.close()


async def test_closing_finishes_what_is_being_written(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), ROOMY)
    putting = asyncio.create_task(spool.put(change("call-1")))
    await asyncio.sleep(0)
    await spool.close()
    await putting
    assert len(on_disk(tmp_path)) == 1


async def test_what_a_stopped_process_was_draining_is_drained_by_the_next_at_once(
    open_spool: OpenSpool, tmp_path: Path, redis: Redis
) -> None:
    stopped = Spool(str(tmp_path), ROOMY)
    await put_all(stopped, "call-1", "call-2")
    redis.pause_s = 600.0
    draining = asyncio.create_task(stopped.drain_some(redis.merge, lambda _: None))
    await eventually(lambda: redis.asked > 0)
    draining.cancel()
    await stopped.close()
    redis.pause_s = 0.0
    assert await open_spool().drain_some(redis.merge, lambda _: None) == 2


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SettingsError, match="SPOOL_DIR: "):
        Spool(str(tmp_path / "file"), ROOMY)
