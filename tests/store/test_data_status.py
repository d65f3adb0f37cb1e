"""How a record becomes final: its data_status, what is counted when, how long it lives."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from service.calls.facts import LARGE_FACTS
from service.store.calls import CallStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from, record, stored
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update

RESULT_MS, PENDING_MS = 1_800_000, 46_800_000
NO_ANALYSIS = ["voicemail", "customer-did-not-answer", "customer-busy", "manually-canceled"]


async def _data_status(store: CallStore, *bodies: dict[str, Any]) -> object:
    for body in bodies:
        await store.merge(change_from(body))
    return (await record(store))["data_status"]


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([message("hang")], "pending"),
        ([status_update("forwarding")], "pending"),
        ([message("transcript", call={"id": "call-1", "status": "ended"})], "pending"),
        ([status_update("ended")], "partial"),
        ([status_update("ended", endedReason="voicemail")], "partial"),
        ([preliminary_report()], "partial"),
        ([preliminary_report(), status_update("ended")], "partial"),
        ([full_report()], "complete"),
        ([full_report(analysis={})], "complete"),
        ([full_report(), status_update("ringing")], "complete"),
    ],
)
async def test_what_was_applied_decides_the_data_status(
    store: CallStore, bodies: list[dict[str, Any]], expected: str
) -> None:
    assert await _data_status(store, *bodies) == expected


@pytest.mark.parametrize("reason", NO_ANALYSIS)
async def test_any_report_completes_a_call_that_can_have_no_analysis(store: CallStore, reason: str) -> None:
    assert await _data_status(store, preliminary_report(endedReason=reason)) == "complete"


@pytest.mark.parametrize("reason", NO_ANALYSIS)
async def test_a_reason_from_the_status_update_completes_with_a_report_that_has_none(
    store: CallStore, reason: str
) -> None:
    bodies = [preliminary_report(endedReason=None), status_update("ended", endedReason=reason)]

    assert await _data_status(store, *bodies) == "complete"


async def test_without_analysis_to_expect_any_report_completes(open_store: OpenStore) -> None:
    store = (await open_store(EXPECT_ANALYSIS=0)).store

    assert await _data_status(store, status_update("ended")) == "partial"
    assert await _data_status(store, preliminary_report()) == "complete"


async def test_a_call_counts_once_as_ended_and_once_as_complete(store: CallStore) -> None:
    bodies = [status_update("ringing"), status_update("ended"), preliminary_report(), full_report(), full_report()]

    merged = [await store.merge(change_from(body)) for body in [*bodies, *bodies]]

    assert [one.became_final is not None for one in merged] == [number == 3 for number in range(10)]
    assert [one.became_complete for one in merged] == [number == 3 for number in range(10)]


async def test_what_became_final_is_told_as_it_then_was(store: CallStore) -> None:
    merged = await store.merge(change_from(full_report()))

    assert merged.became_final is not None
    assert merged.became_final.version == 1
    whole = (await stored(store)).facts
    assert merged.became_final.facts == msgspec.structs.replace(whole, **dict.fromkeys(LARGE_FACTS, b""))
    assert merged.became_final.has_transcript


async def test_concurrent_messages_of_one_call_count_it_once(store: CallStore) -> None:
    merged = await asyncio.gather(*(store.merge(change_from(full_report(cost=cost))) for cost in range(1, 40)))

    assert sum(one.became_final is not None for one in merged) == 1
    assert sum(one.became_complete for one in merged) == 1


async def _open_past_grace(open_store: OpenStore, **variables: object) -> OpenedStore:
    """A store with one partial call whose grace is over."""
    opened = await open_store(REPORT_GRACE_S=0.02, **variables)
    await opened.store.merge(change_from(status_update("ended", endedReason="assistant-ended-call")))
    over_at_ms = (await stored(opened.store)).over_at_ms

    async def is_over() -> bool:
        seconds, microseconds = await opened.redis.time()
        return bool(seconds * 1000 + microseconds // 1000 >= over_at_ms + 20)

    await eventually(is_over)
    return opened


async def test_settling_within_the_grace_changes_nothing(store: CallStore) -> None:
    await store.merge(change_from(status_update("ended")))
    before = await stored(store)

    assert not (await store.expire_grace(b"call-1")).is_changed
    assert await stored(store) == before


async def test_after_the_grace_a_partial_record_becomes_fetch_failed_once(open_store: OpenStore) -> None:
    store = (await _open_past_grace(open_store)).store
    before = await stored(store)

    first, second = await store.expire_grace(b"call-1"), await store.expire_grace(b"call-1")

    after = await stored(store)
    assert (first.is_changed, first.became_complete, second.is_changed) == (True, False, False)
    assert first.became_final is not None
    assert second.became_final is None
    assert (await record(store))["data_status"] == "fetch_failed"
    assert after.version == before.version + 1
    assert after.updated_at_ms > before.updated_at_ms


async def test_a_message_that_comes_after_the_grace_makes_the_step_too(open_store: OpenStore) -> None:
    store = (await _open_past_grace(open_store)).store

    merged = await store.merge(change_from(message("hang")))

    assert merged.became_final is not None
    assert (await record(store))["data_status"] == "fetch_failed"


async def test_a_late_report_still_completes_a_failed_fetch_and_counts_it_complete_only(open_store: OpenStore) -> None:
    store = (await _open_past_grace(open_store)).store
    await store.expire_grace(b"call-1")

    merged = await store.merge(change_from(full_report()))

    assert (merged.became_final, merged.became_complete) == (None, True)
    assert (await record(store))["data_status"] == "complete"


async def test_the_grace_runs_from_the_first_event_that_says_the_call_is_over(store: CallStore) -> None:
    await store.merge(change_from(status_update("ended")))
    over_at_ms = (await stored(store)).over_at_ms

    async def is_later() -> bool:
        await store.merge(change_from(message("hang")))
        return (await stored(store)).expires_at_ms > over_at_ms + PENDING_MS

    await eventually(is_later)
    await store.merge(change_from(preliminary_report()))

    assert (await stored(store)).over_at_ms == over_at_ms


@pytest.mark.parametrize(
    ("body", "life_ms"),
    [
        (status_update("ringing"), PENDING_MS),
        (status_update("ended"), PENDING_MS),
        (preliminary_report(), PENDING_MS),
        (full_report(), RESULT_MS),
        (preliminary_report(endedReason="voicemail"), RESULT_MS),
    ],
)
async def test_a_record_lives_by_whether_it_is_final(opened: OpenedStore, body: dict[str, Any], life_ms: int) -> None:
    await opened.store.merge(change_from(body))

    left_ms = await opened.redis.pttl(opened.keys.call(b"call-1"))
    call = await stored(opened.store)
    assert life_ms - 5_000 < left_ms <= life_ms
    assert call.expires_at_ms == call.updated_at_ms + life_ms
    assert await opened.expires_at_ms(opened.keys.call(b"call-1")) == call.expires_at_ms


async def test_the_step_to_fetch_failed_starts_the_life_of_a_final_record(open_store: OpenStore) -> None:
    opened = await _open_past_grace(open_store)
    key = opened.keys.call(b"call-1")
    assert await opened.redis.pttl(key) > RESULT_MS

    await opened.store.expire_grace(b"call-1")

    call = await stored(opened.store)
    assert call.expires_at_ms == call.updated_at_ms + RESULT_MS
    assert await opened.expires_at_ms(key) == call.expires_at_ms
