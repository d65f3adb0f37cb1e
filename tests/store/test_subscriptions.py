"""Who waits for a call is told once its record is final: noted, due, claimed under a lease, settled, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.store.calls import CallStore
from service.store.keys import BUCKETS, bucket_of
from service.store.subscriptions import LEASE_MS, SUBSCRIPTIONS_AT_MOST, Claim, SubscriptionStore
from tests.store.conftest import OpenedStore, OpenStore
from tests.store.events import change_from, stored, until
from tests.support.vapi_sender import full_report, message, status_update

CALL = b"call-1"
BUCKET = bucket_of(CALL)
ENDED = status_update("ended", endedReason="assistant-ended-call")


@pytest.fixture
def subscriptions(opened: OpenedStore) -> SubscriptionStore:
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys)


def with_lease(opened: OpenedStore, lease_ms: int) -> SubscriptionStore:
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=lease_ms)


async def claimed(subscriptions: SubscriptionStore, limit: int = 10) -> list[Claim]:
    claims, _ = await subscriptions.claim(BUCKET, limit)
    return claims


async def executions_due(subscriptions: SubscriptionStore) -> list[bytes]:
    return [claim.execution_id for claim in await claimed(subscriptions)]


async def test_nothing_is_due_while_the_call_runs(store: CallStore, subscriptions: SubscriptionStore) -> None:
    assert await subscriptions.subscribe(CALL, b"early") is False
    for body in (status_update("ringing"), message("hang"), ENDED):
        await store.merge(change_from(body))
    assert await subscriptions.subscribe(CALL, b"later") is False

    assert await executions_due(subscriptions) == []
    assert sum((await store.survey()).resumable) == 0


async def test_all_who_wait_are_due_when_the_report_comes_and_only_for_that_call(
    store: CallStore, subscriptions: SubscriptionStore
) -> None:
    for call_id, execution_id in ((CALL, b"one"), (CALL, b"two"), (b"call-2", b"other")):
        await subscriptions.subscribe(call_id, execution_id)
    await store.merge(change_from(full_report()))

    assert sum((await store.survey()).resumable) == 2
    assert sorted(await executions_due(subscriptions)) == [b"one", b"two"]


async def test_who_waits_is_due_when_the_grace_is_over(open_store: OpenStore) -> None:
    opened = await open_store(REPORT_GRACE_S=0.05)
    subscriptions = with_lease(opened, LEASE_MS)
    await subscriptions.subscribe(CALL, b"execution")
    await opened.store.merge(change_from(ENDED))

    async def is_settled() -> bool:
        return (await opened.store.settle(CALL)).is_changed

    await until(is_settled)
    assert await executions_due(subscriptions) == [b"execution"]


@pytest.mark.parametrize("body", [None, status_update("ringing"), ENDED])
async def test_who_waits_is_due_when_the_call_is_deleted(
    store: CallStore, subscriptions: SubscriptionStore, body: dict[str, Any] | None
) -> None:
    await subscriptions.subscribe(CALL, b"execution")
    if body is not None:
        await store.merge(change_from(body))
    await store.delete(CALL)

    assert await executions_due(subscriptions) == [b"execution"]


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_who_subscribes_when_it_is_over_is_due_at_once(
    store: CallStore, subscriptions: SubscriptionStore, *, is_deleted: bool
) -> None:
    await store.merge(change_from(full_report()))
    if is_deleted:
        await store.delete(CALL)

    assert await subscriptions.subscribe(CALL, b"execution") is True
    assert await executions_due(subscriptions) == [b"execution"]


async def test_subscribing_again_changes_nothing_whatever_became_of_the_first_time(
    opened: OpenedStore, subscriptions: SubscriptionStore
) -> None:
    await subscriptions.subscribe(CALL, b"execution")
    key = (opened.keys.subscriptions[BUCKET] + CALL).decode()
    await opened.redis.pexpire(key, 60_000)
    assert await subscriptions.subscribe(CALL, b"execution") is False
    assert await opened.redis.pttl(key) <= 60_000

    await opened.store.merge(change_from(full_report()))
    [claim] = await claimed(subscriptions)
    assert await subscriptions.subscribe(CALL, b"execution") is False
    assert await subscriptions.settle(claim, "resumed")
    assert await subscriptions.subscribe(CALL, b"execution") is False
    await opened.store.merge(change_from(full_report(cost=9)))
    await opened.store.delete(CALL)

    assert await executions_due(subscriptions) == []


async def test_a_call_has_at_most_a_hundred_subscriptions(subscriptions: SubscriptionStore) -> None:
    for number in range(SUBSCRIPTIONS_AT_MOST):
        assert await subscriptions.subscribe(CALL, b"execution%d" % number) is False

    assert await subscriptions.subscribe(CALL, b"onemore") is None
    assert await subscriptions.subscribe(CALL, b"execution7") is False
    assert await subscriptions.subscribe(b"call-2", b"onemore") is False


async def test_what_is_claimed_is_nobody_elses_until_the_lease_ends(opened: OpenedStore) -> None:
    subscriptions, hasty = with_lease(opened, LEASE_MS), with_lease(opened, 20)
    await opened.store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")

    first = await claimed(hasty)
    again: list[Claim] = []

    async def is_claimed_again() -> bool:
        again.extend(await claimed(subscriptions))
        return bool(again)

    await until(is_claimed_again)
    assert await claimed(hasty) == []
    assert [(claim.number, claim.tried_for_ms) for claim in first] == [(1, 0)]
    assert again[0].number == 2
    assert 15 <= again[0].tried_for_ms < 5_000


async def test_no_more_is_claimed_than_asked_for_and_the_rest_is_announced(
    store: CallStore, subscriptions: SubscriptionStore
) -> None:
    await store.merge(change_from(full_report()))
    for number in range(5):
        await subscriptions.subscribe(CALL, b"execution%d" % number)

    claims, are_more_left = await subscriptions.claim(BUCKET, 3)
    assert (len(claims), are_more_left) == (3, True)
    claims, are_more_left = await subscriptions.claim(BUCKET, 3)
    assert (len(claims), are_more_left) == (2, False)


async def test_a_retry_is_due_after_its_pause(store: CallStore, subscriptions: SubscriptionStore) -> None:
    await store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")
    [claim] = await claimed(subscriptions)
    assert await subscriptions.settle(claim, "retried", retry_in_ms=60_000)
    assert await claimed(subscriptions) == []

    assert await subscriptions.settle(claim, "retried", retry_in_ms=0)
    [second] = await claimed(subscriptions)
    assert second.number == 2


async def test_a_try_that_took_too_long_does_not_disturb_the_one_after_it(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, 0)
    await opened.store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")
    [slow], [other] = await claimed(subscriptions), await claimed(subscriptions)

    assert not await subscriptions.settle(slow, "retried", retry_in_ms=60_000)
    assert await subscriptions.settle(other, "resumed")
    assert await subscriptions.settle(other, "resumed"), "the same note, sent again"
    assert not await subscriptions.settle(slow, "resumed")
    assert not await subscriptions.settle(slow, "retried")
    assert sum((await opened.store.survey()).resumable) == 0
    assert await claimed(subscriptions) == []


async def test_a_subscription_lives_as_long_as_its_record(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    key = opened.keys.subscriptions[BUCKET] + CALL
    await subscriptions.subscribe(CALL, b"execution")
    assert 46_795_000 < await opened.redis.pttl(key.decode()) <= 46_800_000

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
    opened = await open_store(RESULT_TTL_S=1)
    subscriptions = with_lease(opened, 50)
    await subscriptions.subscribe(CALL, b"execution")
    await opened.store.merge(change_from(full_report()))
    [claim] = await claimed(subscriptions)

    async def is_expired() -> bool:
        return await opened.store.find(CALL) is None

    await until(is_expired)
    assert await claimed(subscriptions) == []
    assert not await subscriptions.settle(claim, "resumed")
    assert sum((await opened.store.survey()).resumable) == 0
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
    store = CallStore(opened.settings, opened.pipeline, opened.keys, on_due=told.append)
    subscriptions = with_lease(opened, LEASE_MS)
    for call_id in (b"merged", b"deleted"):
        await subscriptions.subscribe(call_id, b"execution")
        await store.merge(change_from(status_update("ringing", call_id.decode())))
    assert told == []

    await store.merge(change_from(full_report("merged")))
    await store.delete(b"deleted")
    expected = [bucket_of(b"merged"), bucket_of(b"deleted")]
    assert told == expected

    await store.survey()
    assert sorted(told[2:]) == sorted(expected)
    for bucket in expected:
        await subscriptions.claim(bucket, 10)
    await store.survey()
    await store.merge(change_from(full_report("merged")))
    assert len(told) == 4


async def test_each_call_that_is_waited_for_has_its_turn_with_one_process(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    ids = sorted(b"call-%d" % number for number in range(20))
    for call_id in ids:
        await subscriptions.subscribe(call_id, b"execution")

    assert (await opened.store.survey()).in_turn == [], "only who takes turns gets them"
    surveys = await asyncio.gather(*(opened.store.survey(takes_turns=True) for _ in range(3)))
    assert sorted(call_id for survey in surveys for call_id in survey.in_turn) == ids
    assert [survey.awaited for survey in surveys] == [20] * 3


async def test_who_is_not_waited_for_any_more_has_no_turn(open_store: OpenStore) -> None:
    opened = await open_store(PENDING_TTL_S=1)
    subscriptions = with_lease(opened, LEASE_MS)
    for call_id in (b"final", b"deleted", b"expired"):
        await subscriptions.subscribe(call_id, b"execution")
    await opened.store.merge(change_from(full_report("final")))
    await opened.store.delete(b"deleted")
    assert (await opened.store.survey()).awaited == 1
    await asyncio.sleep(1.05)
    # Another call that is waited for keeps the index alive in each bucket.
    living = [next(b"c%d" % n for n in range(9999) if bucket_of(b"c%d" % n) == bucket) for bucket in range(BUCKETS)]
    for call_id in living:
        await subscriptions.subscribe(call_id, b"execution")

    survey = await opened.store.survey(takes_turns=True)

    assert sorted(survey.in_turn) == sorted(living)
    assert survey.awaited == BUCKETS


async def test_fifty_turns_of_a_bucket_at_a_time_reach_everybody(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, LEASE_MS)
    numbers = (b"call-%d" % number for number in range(99_999))
    ids = [call_id for _, call_id in zip(range(70), filter(lambda c: bucket_of(c) == BUCKET, numbers), strict=False)]
    for call_id in ids:
        await subscriptions.subscribe(call_id, b"execution")

    first, second = [(await opened.store.survey(takes_turns=True)).in_turn for _ in range(2)]

    assert (len(first), sorted(first + second)) == (50, sorted(ids))
