"""The indices are exact: what lives, what is newest, what changed, which calls a number has; and every key expires."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from service.store.calls import CallStore
from service.store.keys import BUCKETS, Keys, bucket_of
from service.store.phone_index import PhoneIndex
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change, change_from, stored
from tests.support.vapi_sender import full_report, message, status_update

PHONE, OTHER_PHONE = "+18645550123", "+18645559999"


async def _now_ms(opened: OpenedStore) -> int:
    seconds, microseconds = await opened.redis.time()
    return int(seconds * 1000 + microseconds // 1000)


async def _ids_of(opened: OpenedStore, phone: str) -> list[bytes]:
    index = PhoneIndex(opened.settings, opened.pipeline, opened.keys)
    return sorted((await index.find_page(phone.encode(), offset=0, limit=100)).call_ids)


async def _calls(store: CallStore, count: int) -> list[bytes]:
    for number in range(count):
        await store.merge(change_from(status_update("ringing", f"call-{number}")))
    return [b"call-%d" % number for number in range(count)]


async def test_every_live_record_is_counted_once(store: CallStore) -> None:
    await _calls(store, 50)
    await _calls(store, 10)

    scan = await store.scan()
    assert scan.size == 50
    assert (scan.newest, scan.changed, scan.past_grace) == ([], [], [])
    assert len(scan.now_ms) == BUCKETS


async def test_the_newest_come_first_and_a_change_makes_new(store: CallStore) -> None:
    await _calls(store, 20)
    before = (await stored(store, "call-19")).updated_at_ms

    async def is_newer() -> bool:
        await store.merge(change_from(full_report("call-3", cost=next(costs))))
        return (await stored(store, "call-3")).updated_at_ms > before

    costs = itertools.count(1)
    await eventually(is_newer)

    newest = (await store.scan(newest=5)).newest
    assert newest[0] == ((await stored(store, "call-3")).updated_at_ms, b"call-3")
    assert newest == sorted(newest, key=lambda entry: (-entry[0], entry[1]))
    assert len(newest) == 5
    assert len((await store.scan(newest=100)).newest) == 20


async def test_what_changed_since_an_earlier_look_is_found_and_nothing_else(store: CallStore) -> None:
    await _calls(store, 10)

    async def is_past_the_last_change() -> bool:
        return min((await store.scan()).now_ms) > (await stored(store, "call-9")).updated_at_ms

    await eventually(is_past_the_last_change)
    since = (await store.scan()).now_ms
    await store.merge(change_from(status_update("ringing", "call-1")))  # nothing new
    await store.merge(change_from(full_report("call-2")))
    await store.merge(change_from(status_update("queued", "call-new")))
    await store.delete(b"call-3")
    await store.delete(b"call-unknown")

    changed = (await store.scan(changed_since_ms=since)).changed
    assert sorted(changed) == [b"call-2", b"call-3", b"call-new", b"call-unknown"]


async def test_what_is_past_its_grace_is_due_until_it_is_settled(open_store: OpenStore) -> None:
    store = (await open_store(REPORT_GRACE_S=0.02)).store
    for body in (status_update("ended", "over"), status_update("ringing", "runs"), full_report("complete")):
        await store.merge(change_from(body))

    async def is_due() -> bool:
        return (await store.scan()).past_grace == [b"over"]

    await eventually(is_due)
    await store.expire_grace(b"over")

    assert (await store.scan()).past_grace == []


async def test_a_number_finds_its_calls_and_only_those(opened: OpenedStore) -> None:
    for call_id, phone in (("call-1", PHONE), ("call-2", PHONE), ("call-3", OTHER_PHONE)):
        await opened.store.merge(change_from(message("hang", call_id, customer={"number": phone})))
    await _calls(opened.store, 1)

    assert await _ids_of(opened, PHONE) == [b"call-1", b"call-2"]
    assert await _ids_of(opened, OTHER_PHONE) == [b"call-3"]
    assert await _ids_of(opened, "+1000") == []


async def test_a_call_moves_to_its_new_number(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(message("hang", customer={"number": PHONE})))
    await opened.store.merge(change_from(full_report(customer={"number": OTHER_PHONE})))
    await opened.store.merge(change_from(message("hang", customer={"number": PHONE})))

    assert await _ids_of(opened, PHONE) == []
    assert await _ids_of(opened, OTHER_PHONE) == [b"call-1"]


@pytest.mark.parametrize("body", [status_update("ringing"), status_update("ended"), full_report()])
async def test_a_deleted_call_is_in_no_list(opened: OpenedStore, body: dict[str, Any]) -> None:
    body["message"]["customer"] = {"number": PHONE}
    await opened.store.merge(change_from(body))
    await opened.store.delete(b"call-1")

    scan = await opened.store.scan(newest=10)
    assert (scan.size, scan.newest, scan.past_grace) == (0, [], [])
    assert await _ids_of(opened, PHONE) == []


async def test_expired_calls_are_in_no_list_and_the_living_stay(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=1, PENDING_TTL_S=60)
    for number in range(12):
        await opened.store.merge(change_from(full_report(f"final-{number}")))
    await opened.store.merge(change_from(status_update("ringing", "runs", customer={"number": PHONE})))

    async def are_expired() -> bool:
        return (await opened.store.scan()).size == 1

    await eventually(are_expired)
    scan = await opened.store.scan(newest=20)
    assert [call_id for _, call_id in scan.newest] == [b"runs"]
    assert await _ids_of(opened, PHONE) == [b"runs"]
    assert await opened.store.find(b"final-0") is None


async def test_a_merge_clears_away_what_expired_in_its_bucket(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=1, PENDING_TTL_S=60)
    await opened.store.merge(change("call-1", status=3, ending=3, customer_phone=f'"{PHONE}"'))
    other = next(f"call-{n}" for n in range(2, 999) if bucket_of(b"call-%d" % n) == bucket_of(b"call-1"))

    expires_at_ms = (await stored(opened.store, "call-1")).expires_at_ms

    async def is_expired() -> bool:
        return await _now_ms(opened) > expires_at_ms

    await eventually(is_expired)
    assert await opened.store.find(b"call-1") is None
    await opened.store.merge(change(other, customer_phone=f'"{PHONE}"'))

    for key in await opened.keys_in_redis():
        if await opened.redis.type(key) == b"zset":
            assert await opened.redis.zrange(key, 0, -1) == [other.encode()]


async def test_the_newest_are_exact_however_many_calls_expired_unseen(opened: OpenedStore) -> None:
    in_bucket = (b"call-%d" % n for n in itertools.count() if bucket_of(b"call-%d" % n) == 0)
    ids = [next(in_bucket) for _ in range(10)]
    await asyncio.gather(*(opened.store.merge(change(call_id.decode(), ending=3)) for call_id in ids))
    # Aged entries, as a burst leaves them: written into the index because a thousand real calls would take long.
    expiry, updates, *_ = opened.keys.indices[0]
    seconds, _ = await opened.redis.time()
    aged = {f"aged-{number}": (seconds - 10) * 1000 for number in range(1010)}
    await opened.redis.zadd(expiry, aged)
    await opened.redis.zadd(updates, aged)

    scan = await opened.store.scan(newest=100)

    assert (scan.size, sorted(call_id for _, call_id in scan.newest)) == (10, sorted(ids))


BUSY_LIFE = [
    status_update("queued", customer={"number": PHONE}),
    status_update("ended", customer={"number": OTHER_PHONE}),
    full_report(),
]


async def test_one_call_takes_at_most_twelve_keys_in_one_slot(opened: OpenedStore) -> None:
    for body in BUSY_LIFE:
        await opened.store.merge(change_from(body))
        keys = await opened.keys_in_redis()
        assert len(keys) <= 12
        tag = b"{%d}" % bucket_of(b"call-1")
        assert all(tag in key for key in keys)


async def test_every_key_expires_not_before_its_record(opened: OpenedStore) -> None:
    for body in BUSY_LIFE:
        await opened.store.merge(change_from(body))
        expires_at_ms = (await stored(opened.store)).expires_at_ms
        for key in await opened.keys_in_redis():
            # Up to a few ms: a script's TIME and the clock that its PEXPIRE counts from are not read at once.
            assert await opened.expires_at_ms(key) >= expires_at_ms - 50


async def test_the_keys_of_a_script_share_one_slot() -> None:
    keys = Keys("vapi")
    for call_id in (b"call-1", b"01a0b1c2-d3e4-7000-8abc-0123456789ab", b"a.b_c-d"):
        bucket = bucket_of(call_id)
        touched = (keys.call(call_id), *keys.indices[bucket], keys.phones[bucket] + PHONE.encode())
        assert {key.partition(b"{")[2].partition(b"}")[0] for key in touched} == {b"%d" % bucket}


async def test_another_prefix_sees_nothing_of_it(open_store: OpenStore, redis_process: Any) -> None:
    one, other = await open_store(at=redis_process.url), await open_store(at=redis_process.url)
    await one.store.merge(change_from(full_report()))

    assert await other.store.find(b"call-1") is None
    assert (await other.store.scan(newest=10)).size == 0
