"""A page of a number's calls is exact, costs what the page costs, and finds what version 0.1.0 wrote."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import pytest

from service.errors import UnavailableError
from service.store.keys import BUCKETS, bucket_of
from service.store.phone_index import PAGES_AT_ONCE, PhoneIndex, PhonePage
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import change, stored

PHONE: Final = "+18645550123"


async def page_of(opened: OpenedStore, *, offset: int = 0, limit: int = 10) -> PhonePage:
    index = PhoneIndex(opened.settings, opened.pipeline, opened.keys)
    return await index.find_page(PHONE.encode(), offset=offset, limit=limit)


async def fill_index(opened: OpenedStore, ids: list[bytes]) -> list[bytes]:
    """Index entries as the merges of so many live calls leave them, oldest first; returns the ids newest first."""
    seconds, _ = await opened.redis.time()
    for bucket in range(BUCKETS):
        mine = {call_id.decode(): number for number, call_id in enumerate(ids) if bucket_of(call_id) == bucket}
        if mine:
            lives = dict.fromkeys(mine, (seconds + 600) * 1000)
            await opened.redis.zadd((opened.keys.phones[bucket] + PHONE.encode()).decode(), lives)
            await opened.redis.zadd((opened.keys.phone_updates[bucket] + PHONE.encode()).decode(), mine)
    return ids[::-1]


async def test_every_page_is_exact_wherever_the_calls_are(opened: OpenedStore) -> None:
    """Spread by chance; then the newest 200 all in one bucket, as ids that somebody chose may be."""
    spread = [b"call-%d" % number for number in range(400)]
    crowded = [call_id for number in range(20_000) if bucket_of(call_id := b"in-one-%d" % number) == 7][:200]
    newest_first = await fill_index(opened, spread + crowded)
    wrong = []
    for offset, limit in ((0, 1), (0, 100), (50, 100), (150, 100), (195, 10), (400, 100), (590, 100), (1000, 5)):
        page = await page_of(opened, offset=offset, limit=limit)
        if page != PhonePage(newest_first[offset : offset + limit], 600):
            wrong.append((offset, limit))
    assert wrong == []


async def test_deep_pages_are_read_one_after_another_and_shallow_ones_beside_them(opened: OpenedStore) -> None:
    newest_first = await fill_index(opened, [b"call-%d" % number for number in range(3000)])
    index = PhoneIndex(opened.settings, opened.pipeline, opened.keys)
    ended: list[int] = []

    async def page_at(offset: int, deadline: float | None = None) -> list[bytes]:
        async with index.turn(offset + 100, deadline):
            page = await index.find_page(PHONE.encode(), offset=offset, limit=100, deadline=deadline)
        ended.append(offset)
        return page.call_ids

    pages = await asyncio.gather(page_at(2000), page_at(2500), page_at(0))
    assert list(pages) == [newest_first[offset : offset + 100] for offset in (2000, 2500, 0)]
    assert ended == [0, 2000, 2500]
    async with index._deep_page:
        with pytest.raises(UnavailableError):
            await page_at(2000, deadline=time.monotonic() + 0.05)
        assert await page_at(0) == newest_first[:100]


async def test_few_pages_are_read_at_once_and_who_waits_too_long_is_told_so(opened: OpenedStore) -> None:
    """With 200 of them at once, a webhook waited 5 s."""
    index = PhoneIndex(opened.settings, opened.pipeline, opened.keys)
    async with AsyncExitStack() as others:
        for _ in range(PAGES_AT_ONCE):
            await others.enter_async_context(index.turn(100))
        with pytest.raises(UnavailableError):
            async with index.turn(100, time.monotonic() + 0.05):
                pass
    async with index.turn(100, time.monotonic() + 0.05):
        pass


async def test_calls_changed_in_the_same_millisecond_are_on_one_page_each(opened: OpenedStore) -> None:
    seconds, _ = await opened.redis.time()
    ids = [b"call-%d" % number for number in range(300)]
    await fill_index(opened, ids)
    for call_id in ids:
        key = opened.keys.phone_updates[bucket_of(call_id)] + PHONE.encode()
        await opened.redis.zadd(key.decode(), {call_id.decode(): seconds * 1000})
    pages = [await page_of(opened, offset=offset, limit=50) for offset in range(0, 300, 50)]
    assert [call_id for page in pages for call_id in page.call_ids] == sorted(ids, reverse=True)


async def test_a_duplicate_renews_a_call_but_does_not_make_it_newer(opened: OpenedStore) -> None:
    for call_id in ("call-1", "call-2"):
        await opened.store.merge(change(call_id, status=1, customer_phone=f'"{PHONE}"'))
        await until_the_clock_moves(opened)
    await opened.store.merge(change("call-1", status=1, customer_phone=f'"{PHONE}"'))
    assert (await page_of(opened)).call_ids == [b"call-2", b"call-1"]
    await opened.store.merge(change("call-1", status=2, customer_phone=f'"{PHONE}"'))
    assert (await page_of(opened)).call_ids == [b"call-1", b"call-2"]


async def test_what_expired_is_neither_listed_nor_counted(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=1, PENDING_TTL_S=60)
    for number in range(30):
        await opened.store.merge(change(f"final-{number}", status=6, ending=3, customer_phone=f'"{PHONE}"'))
    await opened.store.merge(change("runs", status=1, customer_phone=f'"{PHONE}"'))

    async def is_alone() -> bool:
        return await page_of(opened, limit=1) == PhonePage([b"runs"], 1)

    await eventually(is_alone)


async def test_thousands_that_expired_unseen_are_cleared_away_and_the_living_found(opened: OpenedStore) -> None:
    ids = [call_id for number in range(100_000) if bucket_of(call_id := b"aged-%d" % number) == 3][:2500]
    await fill_index(opened, ids)
    seconds, _ = await opened.redis.time()
    phone = (opened.keys.phones[3] + PHONE.encode()).decode()
    await opened.redis.zadd(phone, {call_id.decode(): (seconds - 10) * 1000 for call_id in ids[1:]})
    assert await page_of(opened) == PhonePage([ids[0]], 1)
    assert await opened.redis.zcard(phone) == 1


async def test_calls_that_the_first_version_stored_are_found_in_their_order(opened: OpenedStore) -> None:
    """Version 0.1.0 writes the index by expiry only, for new calls as for known ones."""
    ids = [f"call-{number}" for number in range(100)]
    for call_id in ids:
        await opened.store.merge(change(call_id, status=1, customer_phone=f'"{PHONE}"'))
    moments = [((await stored(opened.store, call_id)).updated_at_ms, call_id.encode()) for call_id in ids]
    for call_id in ids[:90]:
        key = opened.keys.phone_updates[bucket_of(call_id.encode())] + PHONE.encode()
        await opened.redis.zrem(key.decode(), call_id)
    newest_first = [call_id for _, call_id in sorted(moments, reverse=True)]
    assert await page_of(opened, limit=100) == PhonePage(newest_first, 100)
    for key in await opened.keys_in_redis():
        assert await opened.redis.pttl(key) > 0, key


async def test_more_calls_of_the_first_version_than_one_command_looks_through_are_found(opened: OpenedStore) -> None:
    ids = [call_id for number in range(100_000) if bucket_of(call_id := b"before-%d" % number) == 5][:2500]
    newest_first = await fill_index(opened, ids)
    updates = {call_id.decode(): number for number, call_id in enumerate(ids)}
    await opened.redis.zadd(opened.keys.updates(5).decode(), updates)
    await opened.redis.delete((opened.keys.phone_updates[5] + PHONE.encode()).decode())
    assert await page_of(opened, offset=1200, limit=100) == PhonePage(newest_first[1200:1300], 2500)


async def test_a_call_that_the_first_version_took_from_the_number_is_left_out(opened: OpenedStore) -> None:
    for call_id in ("stays", "leaves"):
        await opened.store.merge(change(call_id, status=1, customer_phone=f'"{PHONE}"'))
    await opened.redis.zrem((opened.keys.phones[bucket_of(b"leaves")] + PHONE.encode()).decode(), "leaves")
    assert await page_of(opened) == PhonePage([b"stays"], 1)


async def test_a_redis_that_takes_no_writes_is_still_read(own_redis: RedisProcess, open_on: OpenStore) -> None:
    opened = await open_on()
    await opened.store.merge(change("call-1", status=1, customer_phone=f'"{PHONE}"'))
    ids = [call_id for number in range(1000) if bucket_of(call_id := b"aged-%d" % number) == 3][:10]
    await fill_index(opened, ids)
    seconds, _ = await opened.redis.time()
    phone = (opened.keys.phones[3] + PHONE.encode()).decode()
    await opened.redis.zadd(phone, {call_id.decode(): (seconds - 10) * 1000 for call_id in ids})
    await opened.send("CONFIG", "SET", "min-replicas-to-write", "1")
    assert await page_of(opened) == PhonePage([b"call-1"], 1)


async def test_a_page_costs_the_same_however_many_calls_a_number_has(
    own_redis: RedisProcess, open_on: OpenStore
) -> None:
    """By Redis's own count of what its scripts called, which no busy machine changes."""
    opened = await open_on()

    async def commands_of_a_page() -> int:
        await opened.send("CONFIG", "RESETSTAT")
        await page_of(opened, offset=100, limit=10)
        stats = await opened.redis.info("commandstats")
        return sum(int(each["calls"]) for name, each in stats.items() if name.startswith("cmdstat_z"))

    await fill_index(opened, [b"call-%d" % number for number in range(2_000)])
    few = await commands_of_a_page()
    await fill_index(opened, [b"call-%d" % number for number in range(40_000)])
    assert await commands_of_a_page() <= 1.5 * few


async def until_the_clock_moves(opened: OpenedStore) -> None:
    before = await opened.redis.time()

    async def has_moved() -> bool:
        seconds, microseconds = await opened.redis.time()
        return (seconds - before[0]) * 1000 + (microseconds - before[1]) / 1000 > 2

    await eventually(has_moved)
    await asyncio.sleep(0)
