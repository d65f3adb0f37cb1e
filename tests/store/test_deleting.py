"""Deleted calls stay deleted: the tombstone binds whatever comes later, and nothing points to the record any more."""

from __future__ import annotations

import pytest

from service.calls.stored_call import TOMBSTONE
from service.store.calls import CallStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from, stored
from tests.support.vapi_sender import full_report, status_update

RESULT_MS = 1_800_000


async def test_deleting_removes_the_record_and_says_that_there_was_one(store: CallStore) -> None:
    await store.merge(change_from(full_report()))

    assert await store.delete(b"call-1")
    assert await store.find(b"call-1") == TOMBSTONE


async def test_deleting_twice_finds_nothing_the_second_time(store: CallStore) -> None:
    await store.merge(change_from(full_report()))
    await store.delete(b"call-1")

    assert not await store.delete(b"call-1")
    assert await store.find(b"call-1") == TOMBSTONE


@pytest.mark.parametrize("call_is_known", [True, False])
async def test_a_deleted_call_stays_deleted_whatever_comes_later(store: CallStore, *, call_is_known: bool) -> None:
    if call_is_known:
        await store.merge(change_from(status_update("ringing")))
    assert await store.delete(b"call-1") == call_is_known

    merged = [await store.merge(change_from(body)) for body in (status_update("ended"), full_report())]
    settled = await store.expire_grace(b"call-1")

    for one in (*merged, settled):
        assert (one.is_deleted, one.is_changed, one.became_final, one.became_complete) == (True, False, None, False)
    assert await store.find(b"call-1") == TOMBSTONE
    assert (await store.scan(newest=10)).size == 0


async def test_a_tombstone_lives_as_long_as_a_result_and_a_message_renews_it(opened: OpenedStore) -> None:
    key = opened.keys.call(b"call-1")
    await opened.store.delete(b"call-1")
    assert 0 < await opened.redis.pttl(key) <= RESULT_MS
    await opened.redis.pexpire(key, 60_000)

    await opened.store.expire_grace(b"call-1")
    assert await opened.redis.pttl(key) <= 60_000
    await opened.store.merge(change_from(full_report()))

    assert RESULT_MS - 5_000 < await opened.redis.pttl(key) <= RESULT_MS


async def test_a_deletion_leaves_nothing_but_the_tombstone_and_a_minutes_note_of_it(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(status_update("ended", customer={"number": "+18645550123"})))
    await opened.store.delete(b"call-1")

    left = await opened.keys_in_redis()
    assert len(left) == 2
    assert set(await opened.redis.hkeys(opened.keys.call(b"call-1"))) == {b"deleted", b"deleted_by"}
    [note] = set(left) - {opened.keys.call(b"call-1")}
    assert await opened.redis.zrange(note, 0, -1) == [b"call-1"]
    assert 0 < await opened.redis.pttl(note) <= 60_000


async def test_a_deletion_removes_what_a_later_version_may_have_stored_too(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(full_report()))
    await opened.redis.hset(opened.keys.call(b"call-1"), mapping={"9": '"later"', "facts3": "later"})
    await opened.store.delete(b"call-1")
    assert set(await opened.redis.hkeys(opened.keys.call(b"call-1"))) == {b"deleted", b"deleted_by"}


async def test_a_record_is_not_read_to_be_deleted(open_on: OpenStore) -> None:
    """Reading 9 MB took Redis 50 ms."""
    opened = await open_on()
    await opened.store.merge(change_from(full_report()))
    await opened.store.delete(b"call-1")
    assert "cmdstat_hgetall" not in await opened.redis.info("commandstats")
    assert set(await opened.redis.hkeys(opened.keys.call(b"call-1"))) == {b"deleted", b"deleted_by"}


async def test_once_the_tombstone_is_gone_the_call_may_come_again(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=1)
    await opened.store.merge(change_from(full_report(cost=5)))
    await opened.store.delete(b"call-1")

    async def is_gone() -> bool:
        return await opened.store.find(b"call-1") is None

    await eventually(is_gone)
    await opened.store.merge(change_from(status_update("ringing")))

    assert (await stored(opened.store)).version == 1
