"""A forgotten number comes back from no late message, on no replica; what happens later is taken."""

from __future__ import annotations

import time

import msgspec
import pytest

from service.calls.facts import Facts
from service.calls.stored_call import TOMBSTONE, StoredCall
from service.store.calls import CallStore
from service.store.forgetting import FORGOTTEN_FOR_MS, Forgetting
from service.store.keys import BUCKETS
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change

NUMBER, OTHER = '"+18645550123"', '"+18645559999"'
ARCHIVE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing"}


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store(**ARCHIVE)


async def forget(opened: OpenedStore, call_ids: list[bytes] | None = None) -> list[bytes]:
    return await Forgetting(opened.pipeline, opened.keys, opened.store).forget(" +1 (864) 555-0123", call_ids or [])


def now_ms() -> int:
    return round(time.time() * 1000)


@pytest.mark.parametrize("name", ["customer_phone", "provider_phone"])
async def test_the_calls_of_a_forgotten_number_are_erased_and_stay_so(opened: OpenedStore, name: str) -> None:
    for call_id, number in (("mine", NUMBER), ("other", OTHER)):
        event = change(call_id, rank=8, at_ms=5)
        await opened.store.merge(msgspec.structs.replace(event, facts=Facts(**{name: number.encode()})))

    assert await forget(opened, [b"only-in-the-archive"]) == [b"mine"]

    assert await opened.store.find(b"mine") is TOMBSTONE
    assert await opened.store.find(b"only-in-the-archive") is TOMBSTONE
    assert isinstance(await opened.store.find(b"other"), StoredCall)
    for call_id in ("mine", "only-in-the-archive"):
        assert (await opened.store.merge(change(call_id, rank=8, at_ms=now_ms() + 60_000))).is_deleted


async def test_no_earlier_message_of_a_forgotten_number_makes_a_record(opened: OpenedStore) -> None:
    await forget(opened)

    for at_ms in (0, 1, now_ms() - 60_000):
        merged = await opened.store.merge(change("late", rank=8, at_ms=at_ms, customer_phone=NUMBER))
        assert merged.is_deleted
    assert await opened.store.find(b"late") is None


async def test_a_later_call_of_a_forgotten_number_and_all_other_numbers_are_taken(opened: OpenedStore) -> None:
    await forget(opened)
    other_replica = CallStore(opened.settings, opened.pipeline, opened.keys)

    for store in (opened.store, other_replica):
        for event in (
            change("later", at_ms=now_ms() + 60_000, customer_phone=NUMBER),
            change("other", customer_phone=OTHER),
            change("anonymous"),
        ):
            assert not (await store.merge(event)).is_deleted
    for call_id in (b"later", b"other", b"anonymous"):
        assert isinstance(await opened.store.find(call_id), StoredCall)


async def test_a_number_is_forgotten_for_thirty_days_and_not_kept_in_clear(opened: OpenedStore) -> None:
    await forget(opened)

    for bucket in range(BUCKETS):
        key = opened.keys.forgotten[bucket].decode()
        assert FORGOTTEN_FOR_MS - 60_000 < await opened.redis.pttl(key) <= FORGOTTEN_FOR_MS
        assert not any(b"5550123" in field for field in await opened.redis.hkeys(key))


async def test_without_an_archive_forgotten_numbers_are_not_asked_for(open_store: OpenStore) -> None:
    opened = await open_store()
    await forget(opened)

    assert not (await opened.store.merge(change("call-1", customer_phone=NUMBER))).is_deleted
