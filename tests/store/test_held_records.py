"""A final record that is not in the archive yet outlives its expires_at, wherever it is listed, until it is released."""

from __future__ import annotations

import pytest

from service.store.callback_calls import CallbackCalls
from service.store.index_scan import BucketScan
from service.store.keys import bucket_of
from service.store.lua import load_script
from service.store.phone_index import PhoneIndex
from service.store.subscriptions import SubscriptionStore
from tests.support.callback_receiver import SECRET
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from, stored
from tests.support.vapi_sender import full_report, status_update

CALL, PHONE = b"call-1", b"+18645550123"
BUCKET = bucket_of(CALL)
DAY_MS = 86_400_000
REPORT = full_report(customer={"number": PHONE.decode()})
ARCHIVE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing"}


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    """Records live for a second, and running calls for 20 s."""
    return await open_store(RESULT_TTL_S=1, PENDING_TTL_S=20, **ARCHIVE)


async def scan(opened: OpenedStore) -> BucketScan:
    return await opened.store.scan_bucket(BUCKET)


async def calls_of_phone(opened: OpenedStore) -> list[bytes]:
    return (
        await PhoneIndex(opened.settings, opened.pipeline, opened.keys).find_page(PHONE, offset=0, limit=9)
    ).call_ids


async def let_its_life_pass(opened: OpenedStore) -> None:
    expires_at_ms = (await stored(opened.store)).expires_at_ms

    async def has_passed() -> bool:
        return (await scan(opened)).now_ms > expires_at_ms

    await eventually(has_passed)


async def release(opened: OpenedStore) -> int:
    """What the archive does once it has the call's last change."""
    keys = opened.keys
    entry = await opened.redis.hget(keys.call(CALL).decode(), "unarchived")
    assert entry is not None
    released: int = await load_script("archive_done.lua").run(
        opened.pipeline, BUCKET, keys.archives[BUCKET], *keys.indices[BUCKET][:2], keys.held[BUCKET],
        b"archive", keys.calls[BUCKET], keys.subscriptions[BUCKET], keys.phones[BUCKET], entry, CALL, keys=4,
    )  # fmt: skip
    return released


async def test_a_held_record_outlives_its_expiry_and_stays_in_all_lists(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    await let_its_life_pass(opened)

    call = await stored(opened.store)
    assert call.expires_at_ms == call.updated_at_ms + 1000
    lives_until_ms = await opened.expires_at_ms(opened.keys.call(CALL))
    assert call.updated_at_ms + DAY_MS <= lives_until_ms <= call.updated_at_ms + DAY_MS + 1000
    assert (await scan(opened)).size == 1
    assert [call_id for _, call_id in (await opened.store.scan(newest=5)).newest] == [CALL]
    assert await calls_of_phone(opened) == [CALL]


async def test_a_held_record_does_not_count_as_a_running_call(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    other = next(name for n in range(999) if bucket_of((name := f"other-{n}").encode()) == BUCKET)
    await opened.store.merge(change_from(status_update("ringing", other)))

    found = await scan(opened)
    assert (found.size, found.running) == (2, 1)
    assert found.longest_silence_ms < 10_000


async def test_a_released_record_lives_until_its_own_expiry(open_store: OpenStore) -> None:
    opened = await open_store(**ARCHIVE)
    await SubscriptionStore(opened.settings, opened.pipeline, opened.keys).subscribe(CALL, b"execution")
    await opened.store.merge(change_from(REPORT))
    subscriptions = opened.keys.subscriptions[BUCKET] + CALL
    assert await opened.expires_at_ms(subscriptions) == await opened.expires_at_ms(opened.keys.call(CALL))

    assert await release(opened) == 1

    expires_at_ms = (await stored(opened.store)).expires_at_ms
    for key in (opened.keys.call(CALL), subscriptions):
        assert await opened.expires_at_ms(key) == expires_at_ms
    for index in (opened.keys.indices[BUCKET][0], opened.keys.phones[BUCKET] + PHONE):
        assert float(await opened.redis.zscore(index.decode(), CALL) or 0) == expires_at_ms
    assert (await scan(opened)).size == 1
    assert not await opened.redis.exists(opened.keys.held[BUCKET])


async def test_a_record_released_after_its_expiry_is_gone_everywhere(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    await let_its_life_pass(opened)

    assert await release(opened) == 1

    assert await opened.store.find(CALL) is None
    assert (await scan(opened)).size == 0
    assert (await opened.store.scan(newest=5)).newest == []
    assert await calls_of_phone(opened) == []
    assert [key for key in await opened.keys_in_redis() if await opened.redis.type(key) != b"stream"] == []


async def test_a_change_after_the_one_that_the_archive_has_holds_the_record_again(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=4, **ARCHIVE)
    await opened.store.merge(change_from(REPORT))
    await release(opened)
    await opened.store.merge(change_from(REPORT))  # nothing new
    assert not await opened.redis.exists(opened.keys.held[BUCKET])

    with_cost = full_report(customer={"number": PHONE.decode()}, cost=99)
    await opened.store.merge(change_from(with_cost))
    await let_its_life_pass(opened)
    assert (await stored(opened.store)).version == 2


async def test_a_subscription_to_a_held_record_is_taken_after_its_expiry(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    await let_its_life_pass(opened)
    subscriptions = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)

    assert await subscriptions.subscribe(CALL, b"execution")

    claims = (await subscriptions.claim(BUCKET, 5)).claims
    assert [claim.subscriber for claim in claims] == [b"execution"]


async def test_a_running_call_is_not_held(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(status_update("ringing")))

    call = await stored(opened.store)
    assert await opened.expires_at_ms(opened.keys.call(CALL)) == call.expires_at_ms
    assert not await opened.redis.exists(opened.keys.held[BUCKET])


async def test_a_deleted_call_is_held_no_more(opened: OpenedStore) -> None:
    await opened.store.merge(change_from(REPORT))
    await opened.store.delete(CALL)

    assert (await scan(opened)).size == 0
    left = await opened.redis.hkeys(opened.keys.call(CALL).decode())
    assert sorted(left) == [b"deleted", b"deleted_by", b"life", b"unarchived"]


async def test_without_an_archive_nothing_is_held_or_written_for_it(open_store: OpenStore) -> None:
    opened = await open_store()
    await opened.store.merge(change_from(REPORT))

    assert await opened.expires_at_ms(opened.keys.call(CALL)) == (await stored(opened.store)).expires_at_ms
    assert not await opened.redis.hexists(opened.keys.call(CALL).decode(), "unarchived")
    assert not await opened.redis.exists(opened.keys.held[BUCKET], opened.keys.archives[BUCKET])


@pytest.mark.parametrize("is_archived_first", [True, False])
async def test_a_record_is_held_until_the_archive_and_its_callbacks_have_it_in_either_order(
    open_store: OpenStore, *, is_archived_first: bool
) -> None:
    opened = await open_store(**ARCHIVE, CALLBACK_ALLOWED_PREFIXES="https://a.example/", CALLBACK_SECRET=SECRET)
    given = (opened.settings, opened.pipeline, opened.keys)
    callbacks, looks = SubscriptionStore(*given, callbacks_to=b"0a"), CallbackCalls(*given, [b"0a"])
    await callbacks.subscribe(CALL, b"callback:0a:1", b"https://a.example/")
    await opened.store.merge(change_from(REPORT))

    async def deliver() -> None:
        [claim] = (await callbacks.claim(BUCKET, 1)).claims
        assert await callbacks.end_claim(claim, "delivered")
        assert (await looks.look()).calls == 0

    async def is_held() -> bool:
        lives_ms: int = await opened.redis.pttl(opened.keys.call(CALL))
        return lives_ms > DAY_MS / 2

    if is_archived_first:
        assert await release(opened) == 0
        assert await is_held()
        await deliver()
    else:
        await deliver()
        assert await is_held()
        assert await release(opened) == 1
    assert not await is_held()
    assert (await scan(opened)).size == 1
