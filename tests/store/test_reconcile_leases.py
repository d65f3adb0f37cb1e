"""Who may ask VAPI about a call: one replica at a time, when its record is worth it, ever less often, at a bounded rate."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from service.calls.facts import LARGE_FACTS
from service.calls.stored_call import TOMBSTONE, UNKNOWN_TO_VAPI
from service.store.changes import Changes
from service.store.keys import bucket_of
from service.store.reconcile_leases import (
    ASK_WITHIN_S,
    BACKOFF_STEP_MS,
    UNKNOWN_LIFE_MS,
    ReconcileLease,
    ReconcileLeases,
)
from service.store.subscriptions import SubscriptionStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.passing_time import let_pass
from tests.support.store_events import change, change_from, is_woken, record
from tests.support.vapi_sender import full_report, status_update

CALL = b"call-1"


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store(VAPI_API_KEY="a-key")


@pytest.fixture
async def asking(opened: OpenedStore) -> ReconcileLeases:
    return of_replica(opened)


@pytest.fixture
async def changes(opened: OpenedStore) -> AsyncIterator[Changes]:
    changes = Changes(opened.connect, opened.keys.changes)
    changes.start()

    async def listens() -> bool:
        return changes.is_subscribed

    await eventually(listens)
    yield changes
    await changes.close()


def of_replica(opened: OpenedStore) -> ReconcileLeases:
    """One more replica's view of the same Redis."""
    return ReconcileLeases(opened.settings, opened.pipeline, opened.keys)


SPARE_S = 4.0
"""What a busy machine may take between two steps."""


async def pass_time(opened: OpenedStore, seconds: float) -> None:
    await let_pass(opened.redis, opened.keys.call(CALL), seconds)


async def pauses_between_claims(opened: OpenedStore, asking: ReconcileLeases, count: int) -> list[int]:
    """ReconcileLease as soon as it is granted, so often; the seconds from each claim to the next."""
    pauses = []
    for _ in range(count):
        claim = await asking.claim(CALL)
        assert claim.is_granted
        assert claim.next_in_s is not None
        pauses.append(round(claim.next_in_s))
        await pass_time(opened, claim.next_in_s - SPARE_S)
        assert not (await asking.claim(CALL)).is_granted
        await pass_time(opened, SPARE_S)
    return pauses


def summary(claim: ReconcileLease) -> tuple[bool, str]:
    return claim.is_granted, claim.kind


async def test_an_unknown_call_may_be_asked_for_at_once(asking: ReconcileLeases) -> None:
    assert summary(await asking.claim(CALL)) == (True, "unknown")


async def test_of_many_replicas_one_is_granted_the_call(opened: OpenedStore) -> None:
    claims = await asyncio.gather(*(of_replica(opened).claim(CALL) for _ in range(20)))
    assert [claim.is_granted for claim in claims].count(True) == 1


def test_a_request_ends_before_the_next_may_begin() -> None:
    assert BACKOFF_STEP_MS / 1000 > ASK_WITHIN_S


async def test_an_unknown_call_is_asked_for_ever_less_often(opened: OpenedStore, asking: ReconcileLeases) -> None:
    assert await pauses_between_claims(opened, asking, 6) == [5, 10, 15, 20, 20, 20]


async def test_a_partial_record_is_worth_it_after_five_seconds(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await opened.store.merge(change_from(status_update("ended")))
    early = await asking.claim(CALL)
    await pass_time(opened, 5)

    assert summary(early) == (False, "partial")
    assert early.next_in_s == pytest.approx(5, abs=SPARE_S)
    assert await pauses_between_claims(opened, asking, 5) == [5, 10, 15, 20, 20]


async def test_a_pending_record_is_worth_it_after_thirty_silent_seconds(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    await opened.store.merge(change_from(status_update("in-progress")))
    early = await asking.claim(CALL)
    await pass_time(opened, 30)

    assert summary(early) == (False, "pending")
    assert early.next_in_s == pytest.approx(30, abs=SPARE_S)
    assert await pauses_between_claims(opened, asking, 3) == [30, 30, 30]


async def test_a_message_ends_the_silence_of_a_pending_call(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await opened.store.merge(change_from(status_update("in-progress")))
    await pass_time(opened, 20)
    await opened.store.merge(change_from(status_update("in-progress")))
    await pass_time(opened, 20)
    assert not (await asking.claim(CALL)).is_granted


async def test_a_call_that_turns_partial_is_asked_for_soon_again(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await opened.store.merge(change_from(status_update("in-progress")))
    await pass_time(opened, 30)
    assert (await asking.claim(CALL)).is_granted
    await opened.store.merge(change_from(status_update("ended")))
    await pass_time(opened, 5)

    claim = await asking.claim(CALL)
    assert (summary(claim), claim.next_in_s) == ((True, "partial"), 5)


async def test_a_final_or_deleted_call_is_never_asked_for(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await opened.store.merge(change_from(full_report()))
    final = await asking.claim(CALL)
    await opened.store.delete(CALL)
    deleted = await asking.claim(CALL)

    for claim in (final, deleted):
        assert (summary(claim), claim.next_in_s) == ((False, ""), None)


async def test_a_released_claim_may_be_claimed_a_second_later_and_does_not_count(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    began_at = time.monotonic()
    await asking.release(CALL, await asking.claim(CALL))
    early = await asking.claim(CALL)
    assert not early.is_granted or time.monotonic() - began_at > 1, "a busy machine may have let the second pass"
    assert early.is_granted or (early.next_in_s is not None and early.next_in_s <= 1)
    await asking.release(CALL, early)
    await pass_time(opened, 1)
    assert await pauses_between_claims(opened, asking, 2) == [5, 10]


async def test_a_late_release_ends_nobody_elses_claim(opened: OpenedStore, asking: ReconcileLeases) -> None:
    late = await asking.claim(CALL)
    await pass_time(opened, 5)
    assert (await of_replica(opened).claim(CALL)).is_granted
    await asking.release(CALL, late)
    await pass_time(opened, 1)
    assert not (await asking.claim(CALL)).is_granted


async def test_a_claim_whose_reply_got_lost_is_told_the_same(opened: OpenedStore, asking: ReconcileLeases) -> None:
    claim = await asking.claim(CALL)
    repeated = await asking._run(b"claim", CALL, claim.token)
    assert (repeated[0], repeated[2]) == (1, b"unknown")
    assert await of_replica(opened).claim(CALL) != claim


async def test_a_claim_leaves_no_record_and_goes_by_itself(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await asking.claim(CALL)
    assert await opened.store.find(CALL) is None
    assert (await opened.store.scan(newest=10)).size == 0
    assert await opened.keys_in_redis() == [opened.keys.call(CALL)]
    assert 0 < await opened.redis.pttl(opened.keys.call(CALL)) <= UNKNOWN_LIFE_MS


async def test_a_claim_does_not_change_the_life_of_a_record(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await opened.store.merge(change_from(status_update("ended")))
    expires_at_ms = await opened.expires_at_ms(opened.keys.call(CALL))
    await pass_time(opened, 5)
    assert (await asking.claim(CALL)).is_granted
    assert await opened.expires_at_ms(opened.keys.call(CALL)) == expires_at_ms


async def test_two_404_ten_seconds_apart_make_a_call_missing(opened: OpenedStore, asking: ReconcileLeases) -> None:
    assert not await asking.note_missing(CALL, await asking.claim(CALL))
    await pass_time(opened, 6)
    assert not await asking.note_missing(CALL, await asking.claim(CALL))
    assert await opened.store.find(CALL) is None
    await pass_time(opened, 10)
    assert await asking.note_missing(CALL, await asking.claim(CALL))
    assert await opened.store.find(CALL, LARGE_FACTS) == UNKNOWN_TO_VAPI


async def test_a_missing_call_is_still_asked_for_now_and_then(opened: OpenedStore, asking: ReconcileLeases) -> None:
    await make_missing(opened, asking)
    await pass_time(opened, 20)
    claim = await asking.claim(CALL)
    assert summary(claim) == (True, "unknown")
    assert await asking.note_missing(CALL, claim)


async def test_who_waits_is_told_that_a_call_is_missing(
    opened: OpenedStore, asking: ReconcileLeases, changes: Changes
) -> None:
    with changes.watch(CALL) as watch:
        await make_missing(opened, asking)
        assert await is_woken(watch)


@pytest.mark.parametrize("comes_late", [False, True])
async def test_an_execution_that_is_paused_for_a_missing_call_is_due(
    opened: OpenedStore, asking: ReconcileLeases, *, comes_late: bool
) -> None:
    subscriptions = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    if not comes_late:
        await subscriptions.subscribe(CALL, b"execution")
    await make_missing(opened, asking)
    assert await subscriptions.subscribe(CALL, b"execution") is True

    claims = (await subscriptions.claim(bucket_of(CALL), 10)).claims
    assert [claim.subscriber for claim in claims] == [b"execution"]


async def test_calls_that_became_missing_long_ago_leave_nothing_behind(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    deleted = opened.keys.deleted(bucket_of(CALL))
    await opened.redis.zadd(deleted, {"another-call": 1})
    await make_missing(opened, asking)
    assert await opened.redis.zrange(deleted, 0, -1) == [CALL]


async def test_a_lost_notification_of_a_missing_call_is_found_by_the_scan(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    before = await opened.store.scan()
    await make_missing(opened, asking)
    assert (await opened.store.scan(changed_since_ms=before.now_ms)).changed == [CALL]


async def test_a_message_makes_a_missing_call_a_record_as_if_nothing_had_been(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    await make_missing(opened, asking)
    await opened.store.merge(change("call-1", status=2))
    assert (await record(opened.store))["version"] == 1
    assert await opened.expires_at_ms(opened.keys.call(CALL)) > (time.time() + 3600) * 1000


async def test_a_404_for_a_call_that_has_a_record_means_nothing(opened: OpenedStore, asking: ReconcileLeases) -> None:
    claim = await asking.claim(CALL)
    await opened.store.merge(change("call-1", status=2))
    for _ in range(2):
        assert not await asking.note_missing(CALL, claim)
        await pass_time(opened, 30)
    assert (await record(opened.store))["status"] == "queued"


async def test_a_deleted_call_stays_deleted_whatever_is_noted_of_it(
    opened: OpenedStore, asking: ReconcileLeases
) -> None:
    claim = await asking.claim(CALL)
    await opened.store.delete(CALL)
    assert not await asking.note_missing(CALL, claim)
    await asking.release(CALL, claim)
    assert await opened.store.find(CALL) == TOMBSTONE


async def test_without_a_key_a_call_is_never_missing(open_store: OpenStore) -> None:
    opened = await open_store()
    await make_missing(opened, of_replica(opened))
    assert await opened.store.find(CALL) is None


async def make_missing(opened: OpenedStore, asking: ReconcileLeases) -> None:
    claim = await asking.claim(CALL)
    await asking.note_missing(CALL, claim)
    await pass_time(opened, 10)
    assert await asking.note_missing(CALL, claim)


async def test_turns_come_at_the_rate_whatever_the_number_of_replicas(open_store: OpenStore) -> None:
    opened = await open_store(VAPI_API_KEY="a-key", RECONCILE_PER_SECOND=4)
    began = time.monotonic()
    waits = await asyncio.gather(*(of_replica(opened).reserve_turn() for _ in range(8)))
    took_s = time.monotonic() - began

    granted = sorted(wait for wait in waits if wait is not None)
    assert 4 <= len(granted) <= 5 + 4 * took_s  # at 0, 0.25, 0.5, 0.75 and, for who is not too early, 1 s
    assert all(later - earlier > 0.25 - took_s - 0.01 for earlier, later in itertools.pairwise(granted))


async def test_a_rate_below_one_leaves_seconds_between_turns(open_store: OpenStore) -> None:
    opened = await open_store(VAPI_API_KEY="a-key", RECONCILE_PER_SECOND=0.0001)
    asking = of_replica(opened)
    assert await asking.reserve_turn() == 0
    assert await asking.reserve_turn() is None
    assert 9_000_000 < await opened.redis.pttl(opened.keys.next_turn) <= 10_000_000
