"""The archive's streams: every change and deletion is read by one process, until it is done, given up or taken over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.calls.facts import Facts
from service.calls.stamped_call import StampedCall
from service.calls.stored_call import TOMBSTONE
from service.store.archive_stream import ArchiveEntry, ArchiveStream, StreamLook
from service.store.call_codec import decode_spooled, encode_spooled
from service.store.keys import bucket_of
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change, change_from, stored
from tests.support.vapi_sender import full_report, message, status_update

CALL, PHONE = b"call-1", b"+18645550123"
BUCKET = bucket_of(CALL)
RESULT_MS, DAY_MS = 1_800_000, 86_400_000
ARCHIVE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing"}
REPORT = full_report(customer={"number": PHONE.decode()})
REPORT_WITH_COST = full_report(customer={"number": PHONE.decode()}, cost=99)


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store(**ARCHIVE)


def stream_of(opened: OpenedStore, consumer: bytes = b"one") -> ArchiveStream:
    return ArchiveStream(opened.pipeline, opened.keys, consumer=consumer)


async def read(stream: ArchiveStream, most: int = 100) -> StreamLook:
    return await stream.read(BUCKET, most)


async def is_unarchived(opened: OpenedStore) -> bool:
    return bool(await opened.redis.hexists(opened.keys.call(CALL).decode(), "unarchived"))


async def test_each_change_is_read_once_by_one_of_the_processes(opened: OpenedStore) -> None:
    for body in (REPORT, REPORT, REPORT_WITH_COST):
        await opened.store.merge(change_from(body))

    one, other = await read(stream_of(opened), 1), await read(stream_of(opened, b"other"))

    assert [entry.call_id for entry in (*one.entries, *other.entries)] == [CALL, CALL]
    assert (one.length, one.is_full, other.is_full) == (2, True, False)
    assert 0 < one.oldest_ms <= one.now_ms
    assert (await read(stream_of(opened))).entries == []


async def test_a_call_is_unarchived_until_its_last_change_is_done(opened: OpenedStore) -> None:
    stream = stream_of(opened)
    await opened.store.merge(change_from(REPORT))
    first = (await read(stream)).entries
    await opened.store.merge(change_from(REPORT_WITH_COST))
    assert [*(await stream.find_unarchived(PHONE)).updated_at_ms] == [CALL]

    await stream.end(BUCKET, first)
    assert await is_unarchived(opened)

    await stream.end(BUCKET, (await read(stream)).entries)
    assert not await is_unarchived(opened)
    assert (await stream.find_unarchived(PHONE)).updated_at_ms == {}
    assert (await read(stream)).length == 0


async def test_a_stamp_alone_that_changes_is_a_change_for_the_archive(opened: OpenedStore) -> None:
    stream = stream_of(opened)
    for at_ms in (1, 2, 2):
        await opened.store.merge(change("call-1", rank=9, at_ms=at_ms, ending=3, cost="1"))

    assert len((await read(stream)).entries) == 2
    assert (await stored(opened.store)).version == 1


async def test_a_deletion_is_carried_with_its_time(opened: OpenedStore) -> None:
    await opened.store.delete(b"call-1")

    (entry,) = (await read(stream_of(opened))).entries
    assert entry.call_id == CALL
    assert 0 < entry.deleted_at_ms <= (await read(stream_of(opened))).now_ms


async def test_a_tombstone_outlives_its_deletion_in_the_stream(opened: OpenedStore) -> None:
    stream, key = stream_of(opened), opened.keys.call(CALL)
    await opened.store.merge(change_from(REPORT))
    await opened.store.delete(CALL)
    await opened.store.merge(change_from(REPORT_WITH_COST))  # a late message, which renews it

    assert await opened.redis.pttl(key) > DAY_MS
    await stream.end(BUCKET, (await read(stream)).entries)

    assert 0 < await opened.redis.pttl(key) <= RESULT_MS
    assert await opened.store.find(CALL) == TOMBSTONE


async def test_what_a_dead_process_read_is_taken_over(opened: OpenedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened.store.merge(change_from(REPORT))
    dead, other = stream_of(opened, b"dead"), stream_of(opened, b"other")
    (entry,) = (await read(dead)).entries
    assert (await other.read(BUCKET, 9, takes_over=True)).entries == []

    await dead.give_back(BUCKET)  # as after TAKEN_OVER_AFTER_MS

    assert (await other.read(BUCKET, 9, takes_over=True)).entries == [entry]


async def test_a_layout_of_a_later_version_is_left_for_that_version(opened: OpenedStore) -> None:
    key = opened.keys.archives[BUCKET].decode()
    await opened.redis.xadd(key, {"layout": "2", "something": "else"})
    await opened.store.merge(change_from(REPORT))
    stream = stream_of(opened)

    look = await read(stream)
    await stream.end(BUCKET, look.entries)
    await stream.give_up(BUCKET, 100)

    assert [entry.call_id for entry in look.entries] == [CALL]
    assert await opened.redis.xlen(key) == 1


async def test_what_is_given_up_is_the_oldest_and_no_deletion(opened: OpenedStore) -> None:
    same_bucket = [name for n in range(999) if bucket_of((name := f"call-{n}").encode()) == BUCKET][:5]
    await opened.store.delete(b"call-1")
    stream = stream_of(opened)
    await opened.store.merge(change_from(full_report(same_bucket[1])))
    after_first_ms = (await stream.read(BUCKET, 0)).now_ms + 1

    async def is_later() -> bool:
        return (await stream.read(BUCKET, 0)).now_ms > after_first_ms

    await eventually(is_later)
    for call_id in same_bucket[2:]:
        await opened.store.merge(change_from(full_report(call_id)))

    assert await stream.give_up(BUCKET, 1000, before_ms=1) == 0
    assert await stream.give_up(BUCKET, 1000, only_expired=True) == 0
    assert await stream.give_up(BUCKET, 1000, before_ms=after_first_ms) == 1

    left = (await read(stream)).entries
    assert [entry.call_id.decode() for entry in left] == ["call-1", *same_bucket[2:]]
    call = await stored(opened.store, same_bucket[1])
    assert await opened.expires_at_ms(opened.keys.call(call.call_id)) == call.expires_at_ms


async def test_for_memory_only_records_are_given_up_that_would_be_gone(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=1, **ARCHIVE)
    await opened.store.merge(change_from(REPORT))

    async def is_given_up() -> bool:
        return await stream_of(opened).give_up(BUCKET, 9, only_expired=True) == 1

    await eventually(is_given_up)
    assert await opened.store.find(CALL) is None
    assert (await read(stream_of(opened))).length == 0


async def test_a_running_call_is_written_once_it_is_final_or_runs_for_long(open_store: OpenStore) -> None:
    opened = await open_store(PENDING_TTL_S=16, **ARCHIVE)  # it has a quarter of that
    stream = stream_of(opened)
    for status in ("queued", "ringing", "in-progress"):
        await opened.store.merge(change_from(status_update(status, customer={"number": PHONE.decode()})))
    assert (await read(stream)).entries == []
    assert [*(await stream.find_unarchived(PHONE)).updated_at_ms] == [CALL]

    seen: list[ArchiveEntry] = []

    async def is_on_the_stream() -> bool:
        seen.extend((await read(stream)).entries)
        return bool(seen)

    await eventually(is_on_the_stream)
    await opened.store.merge(change_from(REPORT))
    seen += (await read(stream)).entries
    assert [entry.call_id for entry in seen] == [CALL, CALL]
    await stream.end(BUCKET, seen)
    assert not await is_unarchived(opened)


async def test_a_record_is_read_with_the_stamp_of_each_fact(opened: OpenedStore) -> None:
    await opened.store.merge(change("call-1", rank=3, at_ms=5, customer_phone='"+1"', ended_reason='"x"', ending=1))
    await opened.store.merge(change("call-1", rank=8, at_ms=7, transcript='"hi"', customer_spoke="true", ending=3))

    call = await opened.store.find_stamped(CALL)

    assert isinstance(call, StampedCall)
    early, late = b"3%016d" % 5, b"8%016d" % 7
    assert call.stamps == {"customer_phone": early, "ended_reason": early, "transcript": late, "customer_spoke": late}
    assert call.call.facts == Facts(
        customer_phone=b'"+1"', ended_reason=b'"x"', transcript=b'"hi"', customer_spoke=b"true"
    )
    assert (call.no_analysis, call.deleted_at_vapi, call.raw) == (False, False, b"")
    assert await opened.store.find_stamped(b"call-unknown") is None


@pytest.mark.parametrize("order", [1, -1])
async def test_a_record_knows_that_vapi_deleted_its_call(opened: OpenedStore, order: int) -> None:
    bodies: list[dict[str, Any]] = [message("call.deleted"), REPORT]
    for body in bodies[::order]:
        await opened.store.merge(change_from(body))

    call = await opened.store.find_stamped(CALL)
    assert call is not None
    assert call.deleted_at_vapi


async def test_calls_set_aside_are_listed_with_the_reason(opened: OpenedStore) -> None:
    stream = stream_of(opened)
    await stream.set_aside({CALL: "no room"})
    await stream.set_aside({b"call-%d" % number: "later" for number in range(99)})
    await stream.set_aside({b"newest": "x" * 1000})

    listed = await stream.find_set_aside()
    assert len(listed) == 100
    assert (listed[0].call_id, len(listed[0].reason)) == ("newest", 200)


async def test_processes_that_ended_are_forgotten(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    ended = stream_of(opened, b"ended")
    await ended.end(BUCKET, (await read(ended)).entries)
    await ended.give_back(BUCKET)

    assert await opened.redis.xinfo_consumers(opened.keys.archives[BUCKET].decode(), "archive") == []


async def test_done_twice_or_by_another_process_changes_nothing(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    stream = stream_of(opened)
    entries: list[ArchiveEntry] = (await read(stream)).entries
    await stream.end(BUCKET, entries)
    before = await opened.expires_at_ms(opened.keys.call(CALL))
    await stream_of(opened, b"other").end(BUCKET, entries)

    assert await opened.expires_at_ms(opened.keys.call(CALL)) == before


async def test_the_raw_event_with_the_highest_stamp_is_kept(opened: OpenedStore) -> None:
    events = [
        msgspec.structs.replace(change("call-1", rank=rank, at_ms=at_ms), raw=raw)
        for rank, at_ms, raw in ((3, 5, b'"middle"'), (8, 5, b'"a"'), (8, 5, b'"b"'), (8, 4, b'"z"'), (9, 9, b""))
    ]
    for each in (*events, *reversed(events)):
        await opened.store.merge(decode_spooled(encode_spooled(each)))

    call = await opened.store.find_stamped(CALL)
    assert call is not None
    assert (call.raw, call.raw_stamp) == (b'"b"', b"8%016d" % 5)
