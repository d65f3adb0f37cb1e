"""How long subscriptions live, who is told of them, and whose turn it is to be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from service.store.calls import CallStore
from service.store.keys import BUCKETS, bucket_of
from service.store.subscriptions import LEASE_MS, SubscriptionStore, TryClaim
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from, stored
from tests.support.vapi_sender import full_report, status_update

CALL = b"call-1"
BUCKET = bucket_of(CALL)
ENDED = status_update("ended", endedReason="assistant-ended-call")


def with_lease(opened: OpenedStore, lease_ms: int) -> SubscriptionStore:
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=lease_ms)


async def claimed(subscriptions: SubscriptionStore, limit: int = 10) -> list[TryClaim]:
    return (await subscriptions.claim(BUCKET, limit)).claims


async def test_a_subscription_lives_as_long_as_its_record(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    key = opened.keys.subscriptions[BUCKET] + CALL
    await subscriptions.subscribe(CALL, b"execution")
    assert 3_595_000 < await opened.redis.pttl(key.decode()) <= 3_600_000

    for body in (status_update("ringing"), ENDED, full_report(), full_report()):
        await opened.store.merge(change_from(body))
        assert await opened.expires_at_ms(key) == await opened.expires_at_ms(opened.keys.call(CALL))
    await opened.store.delete(CALL)
    for one in (key, opened.keys.call(CALL)):
        await opened.redis.pexpire(one.decode(), 60_000)
    await opened.store.merge(change_from(ENDED))
    for one in (key, opened.keys.call(CALL)):
        assert 1_795_000 < await opened.redis.pttl(one.decode()) <= 1_800_000


@pytest.mark.parametrize("body", [status_update("ringing"), full_report()])
async def test_a_later_subscription_ends_with_the_record(opened: OpenedStore, body: dict[str, Any]) -> None:
    await opened.store.merge(change_from(body))
    await with_lease(opened, LEASE_MS).subscribe(CALL, b"execution")

    key = opened.keys.subscriptions[BUCKET] + CALL
    assert await opened.expires_at_ms(key) == (await stored(opened.store)).expires_at_ms


async def test_what_expired_with_its_record_is_due_no_more(open_store: OpenStore) -> None:
    opened = await open_store(RESULT_TTL_S=4)
    subscriptions = with_lease(opened, 50)
    await subscriptions.subscribe(CALL, b"execution")
    await opened.store.merge(change_from(full_report()))
    [claim] = await claimed(subscriptions)

    async def is_expired() -> bool:
        return await opened.store.find(CALL) is None

    await eventually(is_expired)
    assert await claimed(subscriptions) == []
    assert not await subscriptions.end_claim(claim, "resumed")
    assert sum((await opened.store.scan()).resumable) == 0
    assert not await opened.redis.exists((opened.keys.subscriptions[BUCKET] + CALL).decode())


async def test_a_call_that_is_waited_for_takes_at_most_twelve_keys_that_all_expire(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: subscriptions.subscribe(CALL, b"one"),
        lambda: opened.store.merge(change_from(status_update("queued", customer={"number": "+18645550123"}))),
        lambda: opened.store.merge(change_from(ENDED)),
        lambda: opened.store.merge(change_from(full_report())),
        lambda: subscriptions.subscribe(CALL, b"two"),
        lambda: claimed(subscriptions),
        lambda: opened.store.delete(CALL),
    ]
    for step in steps:
        await step()
        keys = await opened.keys_in_redis()
        assert len(keys) <= 12
        for key in keys:
            assert b"{%d}" % BUCKET in key
            assert await opened.redis.pttl(key) > 0


async def test_the_process_whose_command_made_it_due_is_told(opened: OpenedStore) -> None:
    told: list[int] = []
    store = CallStore(opened.settings, opened.pipeline, opened.keys, on_due=lambda bucket, _: told.append(bucket))
    subscriptions = with_lease(opened, LEASE_MS)
    for call_id in (b"merged", b"deleted"):
        await subscriptions.subscribe(call_id, b"execution")
        await store.merge(change_from(status_update("ringing", call_id.decode())))
    assert told == []

    await store.merge(change_from(full_report("merged")))
    await store.delete(b"deleted")
    expected = [bucket_of(b"merged"), bucket_of(b"deleted")]
    assert told == expected

    await store.scan()
    assert sorted(told[2:]) == sorted(expected)
    for bucket in expected:
        await subscriptions.claim(bucket, 10)
    await store.scan()
    await store.merge(change_from(full_report("merged")))
    assert len(told) == 4


async def test_each_call_that_is_waited_for_has_its_turn_with_one_process(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    ids = sorted(b"call-%d" % number for number in range(20))
    for call_id in ids:
        await subscriptions.subscribe(call_id, b"execution")

    assert (await opened.store.scan()).to_reconcile == [], "only who takes turns gets them"
    scans = await asyncio.gather(*(opened.store.scan(takes_turns=True) for _ in range(3)))
    assert sorted(call_id for scan in scans for call_id in scan.to_reconcile) == ids
    assert [scan.subscribed_calls for scan in scans] == [20] * 3


async def test_who_is_not_waited_for_any_more_has_no_turn(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    for call_id in (b"final", b"deleted", b"waits"):
        await subscriptions.subscribe(call_id, b"execution")
    await opened.store.merge(change_from(full_report("final")))
    await opened.store.delete(b"deleted")
    assert (await opened.store.scan()).subscribed_calls == 1
    await opened.store.delete(b"waits")
    shortly = msgspec.structs.replace(opened.settings, pending_ttl_s=1)
    await SubscriptionStore(shortly, opened.pipeline, opened.keys).subscribe(b"expired", b"execution")
    key = (opened.keys.subscriptions[bucket_of(b"expired")] + b"expired").decode()

    async def is_expired() -> bool:
        return not await opened.redis.exists(key)

    await eventually(is_expired)
    # Another call that is waited for keeps the index alive in each bucket.
    living = [next(b"c%d" % n for n in range(9999) if bucket_of(b"c%d" % n) == bucket) for bucket in range(BUCKETS)]
    for call_id in living:
        await subscriptions.subscribe(call_id, b"execution")

    scan = await opened.store.scan(takes_turns=True)

    assert sorted(scan.to_reconcile) == sorted(living)
    assert scan.subscribed_calls == BUCKETS


async def test_fifty_turns_of_a_bucket_at_a_time_reach_everybody(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    numbers = (b"call-%d" % number for number in range(99_999))
    ids = [call_id for _, call_id in zip(range(70), filter(lambda c: bucket_of(c) == BUCKET, numbers), strict=False)]
    for call_id in ids:
        await subscriptions.subscribe(call_id, b"execution")

    first, second = [(await opened.store.scan(takes_turns=True)).to_reconcile for _ in range(2)]

    assert (len(first), sorted(first + second)) == (50, sorted(ids))
