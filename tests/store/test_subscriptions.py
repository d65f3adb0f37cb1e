"""Who waits for a call is told once its record is final: noted, due, claimed under a lease, settled, forgotten in time."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import TooManyRequestsError
from service.store.calls import CallStore
from service.store.keys import bucket_of
from service.store.subscriptions import LEASE_MS, SUBSCRIPTIONS_AT_MOST, SubscriptionStore, TryClaim
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, message, status_update

CALL = b"call-1"
BUCKET = bucket_of(CALL)
ENDED = status_update("ended", endedReason="assistant-ended-call")


@pytest.fixture
def subscriptions(opened: OpenedStore) -> SubscriptionStore:
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys)


def with_lease(opened: OpenedStore, lease_ms: int) -> SubscriptionStore:
    return SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=lease_ms)


async def claimed(subscriptions: SubscriptionStore, limit: int = 10) -> list[TryClaim]:
    return (await subscriptions.claim(BUCKET, limit)).claims


async def executions_due(subscriptions: SubscriptionStore) -> list[bytes]:
    return [claim.subscriber for claim in await claimed(subscriptions)]


async def test_nothing_is_due_while_the_call_runs(store: CallStore, subscriptions: SubscriptionStore) -> None:
    assert await subscriptions.subscribe(CALL, b"early") is False
    for body in (status_update("ringing"), message("hang"), ENDED):
        await store.merge(change_from(body))
    assert await subscriptions.subscribe(CALL, b"later") is False

    assert await executions_due(subscriptions) == []
    assert sum((await store.scan()).resumable) == 0


async def test_all_who_wait_are_due_when_the_report_comes_and_only_for_that_call(
    store: CallStore, subscriptions: SubscriptionStore
) -> None:
    for call_id, execution_id in ((CALL, b"one"), (CALL, b"two"), (b"call-2", b"other")):
        await subscriptions.subscribe(call_id, execution_id)
    await store.merge(change_from(full_report()))

    assert sum((await store.scan()).resumable) == 2
    assert sorted(await executions_due(subscriptions)) == [b"one", b"two"]


async def test_who_waits_is_due_when_the_grace_is_over(open_store: OpenStore) -> None:
    opened = await open_store(REPORT_GRACE_S=0.05)
    subscriptions = with_lease(opened, LEASE_MS)
    await subscriptions.subscribe(CALL, b"execution")
    await opened.store.merge(change_from(ENDED))

    async def is_expired() -> bool:
        return (await opened.store.expire_grace(CALL)).is_changed

    await eventually(is_expired)
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
    assert await subscriptions.end_claim(claim, "resumed")
    assert await subscriptions.subscribe(CALL, b"execution") is False
    await opened.store.merge(change_from(full_report(cost=9)))
    await opened.store.delete(CALL)

    assert await executions_due(subscriptions) == []


async def test_a_call_has_at_most_a_hundred_subscriptions(subscriptions: SubscriptionStore) -> None:
    for number in range(SUBSCRIPTIONS_AT_MOST):
        assert await subscriptions.subscribe(CALL, b"execution%d" % number) is False

    with pytest.raises(TooManyRequestsError):
        await subscriptions.subscribe(CALL, b"onemore")
    assert await subscriptions.subscribe(CALL, b"execution7") is False
    assert await subscriptions.subscribe(b"call-2", b"onemore") is False


async def test_what_is_claimed_is_nobody_elses_until_the_lease_ends(opened: OpenedStore) -> None:
    subscriptions, hasty = with_lease(opened, LEASE_MS), with_lease(opened, 20)
    await opened.store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")

    first = await claimed(hasty)
    again: list[TryClaim] = []

    async def is_claimed_again() -> bool:
        again.extend(await claimed(subscriptions))
        return bool(again)

    await eventually(is_claimed_again)
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

    first, second = [await subscriptions.claim(BUCKET, 3) for _ in range(2)]
    assert (len(first.claims), first.are_more_left) == (3, True)
    assert (len(second.claims), second.are_more_left) == (2, False)


async def test_a_retry_is_due_after_its_pause(store: CallStore, subscriptions: SubscriptionStore) -> None:
    await store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")
    [claim] = await claimed(subscriptions)
    assert await subscriptions.end_claim(claim, "retried", retry_in_ms=60_000)
    assert await claimed(subscriptions) == []

    assert await subscriptions.end_claim(claim, "retried", retry_in_ms=0)
    [second] = await claimed(subscriptions)
    assert second.number == 2


async def test_a_try_that_took_too_long_does_not_disturb_the_one_after_it(opened: OpenedStore) -> None:
    subscriptions = with_lease(opened, 0)
    await opened.store.merge(change_from(full_report()))
    await subscriptions.subscribe(CALL, b"execution")
    [slow], [other] = await claimed(subscriptions), await claimed(subscriptions)

    assert not await subscriptions.end_claim(slow, "retried", retry_in_ms=60_000)
    assert await subscriptions.end_claim(other, "resumed")
    assert await subscriptions.end_claim(other, "resumed"), "the same note, sent again"
    assert not await subscriptions.end_claim(slow, "resumed")
    assert not await subscriptions.end_claim(slow, "retried")
    assert sum((await opened.store.scan()).resumable) == 0
    assert await claimed(subscriptions) == []
