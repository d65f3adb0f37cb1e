"""Callbacks in Redis: due with the record, left alone by replicas that know of none, and holding the record until they are delivered."""

from __future__ import annotations

import pytest

from service.store.callback_calls import CallbackCalls
from service.store.calls import CallStore
from service.store.keys import bucket_of
from service.store.subscriptions import SubscriptionStore, TryClaim
from tests.support.callback_receiver import SECRET
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

CALL = b"call-1"
BUCKET = bucket_of(CALL)
ORIGIN = b"0123abcd"
SUBSCRIBER = b"callback:0123abcd:" + b"7" * 32
URL = b"https://a.example/hook?key=1"
HOUR_MS = 3_600_000


class Callbacks:
    """One replica that sends callbacks to one origin."""

    def __init__(self, opened: OpenedStore, lease_ms: int = 10_000) -> None:
        given = (opened.settings, opened.pipeline, opened.keys)
        self.told: list[tuple[int, bytes]] = []
        self.calls = CallStore(*given, on_due=lambda bucket, queue: self.told.append((bucket, queue)))
        self.store = SubscriptionStore(*given, callbacks_to=ORIGIN, lease_ms=lease_ms)
        self._looks = CallbackCalls(*given, [ORIGIN])
        self._opened = opened

    async def subscribe(self) -> bool:
        return await self.store.subscribe(CALL, SUBSCRIBER, URL)

    async def claimed(self) -> list[TryClaim]:
        return (await self.store.claim(BUCKET, 10)).claims

    async def look(self) -> tuple[int, int]:
        """How many calls have undelivered callbacks, and how many callbacks are due, after looking at all of them."""
        await self._opened.redis.zadd(self._opened.keys.callback_calls(BUCKET), {CALL: 0}, xx=True)
        standing = await self._looks.look()
        return standing.calls, standing.due.get(ORIGIN, 0)

    async def lives_for_ms(self) -> int:
        lives_ms: int = await self._opened.redis.pttl(self._opened.keys.call(CALL))
        return lives_ms


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store(CALLBACK_ALLOWED_PREFIXES="https://a.example/", CALLBACK_SECRET=SECRET)


@pytest.fixture
def callbacks(opened: OpenedStore) -> Callbacks:
    return Callbacks(opened)


@pytest.fixture
async def unaware(open_store: OpenStore, opened: OpenedStore) -> CallStore:
    """The calls of a replica on the same Redis that knows of no callbacks."""
    other = await open_store()
    return CallStore(other.settings, opened.pipeline, opened.keys)


async def test_it_is_due_when_the_report_comes_and_its_replica_is_told(callbacks: Callbacks) -> None:
    assert await callbacks.subscribe() is False
    await callbacks.calls.merge(change_from(status_update("in-progress")))
    assert await callbacks.claimed() == []

    await callbacks.calls.merge(change_from(full_report()))
    assert callbacks.told == [(BUCKET, ORIGIN)]
    [claim] = await callbacks.claimed()
    assert (claim.call_id, claim.subscriber, claim.number, claim.purpose) == (CALL, SUBSCRIBER, 1, URL)
    assert await callbacks.claimed() == []


async def test_replicas_that_know_of_no_callbacks_neither_claim_nor_end_one(
    callbacks: Callbacks, opened: OpenedStore, unaware: CallStore
) -> None:
    executions = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    await callbacks.subscribe()
    await unaware.merge(change_from(full_report()))

    assert (await executions.claim(BUCKET, 10)).claims == []
    assert sum((await unaware.scan()).resumable) == 0
    assert await callbacks.claimed() == []
    assert await callbacks.look() == (1, 1), "what they left out is found"
    [claim] = await callbacks.claimed()
    assert await executions.end_claim(claim, "dropped") is False
    assert await callbacks.store.end_claim(claim, "delivered")


async def test_a_deletion_by_such_a_replica_is_found_too(callbacks: Callbacks, unaware: CallStore) -> None:
    await callbacks.subscribe()
    await unaware.delete(CALL)
    assert await callbacks.look() == (1, 1)


async def test_its_record_lives_a_day_until_it_is_delivered_and_then_as_long_as_any(
    callbacks: Callbacks, opened: OpenedStore
) -> None:
    await callbacks.subscribe()
    await callbacks.calls.merge(change_from(full_report()))
    assert await callbacks.lives_for_ms() > 23 * HOUR_MS
    [claim] = await callbacks.claimed()
    assert await callbacks.store.end_claim(claim, "retried")
    assert await callbacks.look() == (1, 1)
    assert await callbacks.lives_for_ms() > 23 * HOUR_MS

    [claim] = await callbacks.claimed()
    assert await callbacks.store.end_claim(claim, "delivered")
    assert await callbacks.look() == (0, 0)
    assert 0 < await callbacks.lives_for_ms() <= opened.settings.result_ttl_ms
    assert (await callbacks.calls.scan()).size == 1


async def test_a_record_that_was_final_before_is_held_from_then_on(callbacks: Callbacks) -> None:
    await callbacks.calls.merge(change_from(full_report()))
    assert await callbacks.subscribe() is True
    await callbacks.look()
    assert await callbacks.lives_for_ms() > 23 * HOUR_MS
    assert (await callbacks.calls.scan()).size == 1


async def test_a_hold_that_another_replica_ended_is_renewed(callbacks: Callbacks, unaware: CallStore) -> None:
    await callbacks.subscribe()
    await callbacks.calls.merge(change_from(full_report()))
    await unaware.merge(change_from(full_report(cost=9)))
    assert await callbacks.lives_for_ms() < HOUR_MS

    await callbacks.look()
    assert await callbacks.lives_for_ms() > 23 * HOUR_MS
    assert (await callbacks.calls.scan()).size == 1


async def test_a_lost_entry_is_put_back_and_a_lease_is_left_alone(callbacks: Callbacks, opened: OpenedStore) -> None:
    await callbacks.subscribe()
    await callbacks.calls.merge(change_from(full_report()))
    await callbacks.claimed()
    assert await callbacks.look() == (1, 0)
    await opened.redis.delete(opened.keys.due_callbacks(BUCKET, ORIGIN))
    assert await callbacks.look() == (1, 1)
    assert [claim.number for claim in await callbacks.claimed()] == [2]


async def test_what_expired_undelivered_is_counted_once(callbacks: Callbacks, opened: OpenedStore) -> None:
    await callbacks.subscribe()
    await callbacks.calls.merge(change_from(full_report()))
    await opened.redis.delete(opened.keys.call(CALL), opened.keys.subscriptions[BUCKET] + CALL)

    assert [(await callbacks.store.claim(BUCKET, 10)).expired for _ in range(2)] == [1, 0]
    assert await callbacks.look() == (0, 0)


async def test_executions_and_callbacks_of_a_call_are_claimed_apart(callbacks: Callbacks, opened: OpenedStore) -> None:
    executions = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    await executions.subscribe(CALL, b"execution")
    await callbacks.subscribe()
    await callbacks.calls.merge(change_from(full_report()))

    assert sorted(callbacks.told) == [(BUCKET, b""), (BUCKET, ORIGIN)]
    assert [claim.subscriber for claim in (await executions.claim(BUCKET, 10)).claims] == [b"execution"]
    assert [claim.subscriber for claim in await callbacks.claimed()] == [SUBSCRIBER]
