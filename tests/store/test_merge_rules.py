"""The merge, rule by rule: which value of a fact stays, what moves the status, what counts as a change."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from service.store.calls import CallStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore
from tests.support.store_events import change, change_from, record, stored
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_two_lesser_messages_that_fill_one_blank_do_so_in_any_order(
    store: CallStore, order: tuple[int, ...]
) -> None:
    changes = [
        change(rank=9, at_ms=5, urgency='"immediate"'),
        change(rank=2, at_ms=20, location='"Greenville"'),
        change(rank=3, at_ms=10, location='"Columbia"'),
    ]

    for number in order:
        await store.merge(changes[number])

    assert (await record(store))["location"] == "Columbia"


@pytest.mark.parametrize("later", ['"ab"', '"abc"', '"aa"', '"ä"'])
@pytest.mark.parametrize("fact", ["location", "messages"])
async def test_of_equal_stamps_the_greater_bytes_win(store: CallStore, fact: str, later: str) -> None:
    for first, second, call_id in (('"ab"', later, "call-1"), (later, '"ab"', "call-2")):
        for text in (first, second):
            facts: Any = {fact: text}
            await store.merge(change(call_id, rank=6, at_ms=7, **facts))

    winner = max('"ab"', later, key=str.encode)
    for call_id in ("call-1", "call-2"):
        call = await stored(store, call_id)
        assert winner.encode() in call.facts.known().values()


@pytest.mark.parametrize("reversed_", [False, True])
async def test_of_equal_stamps_the_greater_ended_reason_wins_whatever_its_outcome(
    store: CallStore, *, reversed_: bool
) -> None:
    reasons = ["customer-busy", "customer-ended-call"]
    for reason in reversed(reasons) if reversed_ else reasons:
        await store.merge(change_from(full_report(endedReason=reason)))

    assert (await record(store))["ended_reason"] == "customer-ended-call"


async def test_of_equal_stamps_a_text_loses_to_the_same_text_continued(store: CallStore) -> None:
    for transcript in ("Hello", "Hello and goodbye"):
        await store.merge(change_from(full_report(artifact={"transcript": transcript})))

    assert (await record(store))["transcript"] == {"text": "Hello and goodbye"}


async def test_a_message_without_timestamp_loses_to_one_of_its_kind_with_any(store: CallStore) -> None:
    await store.merge(change_from(message("hang", at_ms=1, customer={"number": "+18645550123"})))
    await store.merge(change_from(message("hang", at_ms=None, customer={"number": "+18645559999"})))

    assert (await record(store))["customer_phone"] == "+18645550123"


async def test_a_greater_rank_beats_any_timestamp(store: CallStore) -> None:
    await store.merge(change(rank=8, at_ms=0, cost="1"))
    await store.merge(change(rank=7, at_ms=2**53 - 1, cost="2"))

    assert (await record(store))["cost"] == 1


ERASURE: dict[str, Any] = {
    "endedReason": "", "startedAt": None, "durationSeconds": None, "cost": None, "artifact": {"messages": []},
    "analysis": {"summary": "", "structuredData": {}}, "customer": {"number": ""},
}  # fmt: skip


@pytest.mark.parametrize("erasure_comes_first", [True, False])
async def test_empty_values_erase_nothing(store: CallStore, *, erasure_comes_first: bool) -> None:
    report, erasure = change_from(full_report()), change_from(full_report(at_ms=2_000_000_000_000, **ERASURE))
    for event in (erasure, report) if erasure_comes_first else (report, erasure):
        await store.merge(event)

    facts = await record(store)
    assert facts["ended_reason"] == "assistant-ended-call"
    assert facts["customer_phone"] == "+18645550123"
    assert facts["analysis_summary"] == "They said hello."
    assert facts["messages"] == full_report()["message"]["artifact"]["messages"]
    assert (facts["cost"], facts["duration_minutes"]) == (0.1187, 0.44)


async def test_zero_and_false_replace_values(store: CallStore) -> None:
    await store.merge(change_from(full_report(cost=2, analysis={"summary": "s", "structuredData": {"a": 1}})))
    await store.merge(
        change_from(full_report(at_ms=2_000_000_000_000, cost=0, analysis={"summary": "s", "structuredData": False}))
    )

    facts = await record(store)
    assert (facts["cost"], facts["analysis_structured_data"]) == (0, False)


@pytest.mark.parametrize("later", ["scheduled", "queued", "ringing", "in-progress", "forwarding"])
async def test_the_status_never_moves_back(store: CallStore, later: str) -> None:
    await store.merge(change_from(status_update("ended")))
    await store.merge(change_from(status_update(later, at_ms=2_000_000_000_000)))

    assert (await record(store))["status"] == "ended"


async def test_a_call_nobody_gave_a_status_has_none(store: CallStore) -> None:
    await store.merge(change_from(message("hang")))

    assert (await record(store))["status"] is None


@pytest.mark.parametrize(
    "second",
    [
        full_report(),
        full_report(at_ms=2_000_000_000_000),
        message("transcript", transcript="AI: Hel"),
        status_update("ringing"),
        preliminary_report(endedReason="silence-timed-out"),
    ],
    ids=["a duplicate", "the same facts, later", "a fragment", "a lower status", "a lesser report"],
)
async def test_what_changes_nothing_renews_life_but_neither_version_nor_updated_at(
    store: CallStore, second: dict[str, Any]
) -> None:
    await store.merge(change_from(full_report()))
    before = await stored(store)

    async def is_renewed() -> bool:
        merged = await store.merge(change_from(second))
        assert not merged.is_changed
        return (await stored(store)).expires_at_ms > before.expires_at_ms

    await eventually(is_renewed)
    after = await stored(store)
    assert (after.version, after.updated_at_ms, after.created_at_ms) == (1, before.updated_at_ms, before.created_at_ms)


async def test_every_change_of_a_fact_or_a_status_is_a_version(store: CallStore) -> None:
    versions = []
    for body in (
        status_update("queued"),
        status_update("ringing"),
        message("hang", customer={"number": "+18645550123"}),
        status_update("ended"),
        full_report(),
    ):
        assert (await store.merge(change_from(body))).is_changed
        versions.append((await stored(store)).version)

    assert versions == [1, 2, 3, 4, 5]


async def test_the_times_of_a_record_are_redis_own(opened: OpenedStore) -> None:
    before = await opened.redis.time()
    await opened.store.merge(change(at_ms=2**53 - 1))
    after = await opened.redis.time()

    call = await stored(opened.store)
    assert before[0] * 1000 <= call.created_at_ms == call.updated_at_ms <= (after[0] + 1) * 1000


async def test_the_store_knows_nothing_of_a_call_nobody_has_heard_of(opened: OpenedStore) -> None:
    merged = await opened.store.expire_grace(b"call-1")

    assert not merged.is_changed
    assert not merged.is_deleted
    assert await opened.store.find(b"call-1") is None
    assert await opened.keys_in_redis() == []
