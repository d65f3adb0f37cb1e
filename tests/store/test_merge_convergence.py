"""The merge converges: whatever the order, the repetitions and the replicas, the same messages give the same record."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calls.facts import FACTS
from service.calls.stored_call import CallChange
from service.store.calls import CallStore
from tests.support.merge_events import BODIES, CHANGES, PROPERTY
from tests.support.opened_store import OpenedStore
from tests.support.store_events import change as change_of
from tests.support.store_events import change_from, merged_facts, stored
from tests.support.vapi_sender import full_report, message, preliminary_report, sample, sample_names, status_update

_numbers = itertools.count()


@pytest.fixture
async def replicas(opened: OpenedStore) -> list[CallStore]:
    return [opened.store] + [CallStore(opened.settings, opened.start_pipeline(1), opened.keys) for _ in range(2)]


async def _facts_after(store: CallStore, changes: list[CallChange]) -> dict[str, Any]:
    """Merge, one after the other, into a call of its own."""
    call_id = f"call-{next(_numbers)}"
    for change in changes:
        await store.merge(msgspec.structs.replace(change, call_id=call_id.encode()))
    return await merged_facts(store, call_id)


async def _state_after(store: CallStore, changes: list[CallChange]) -> tuple[object, ...]:
    call_id = f"call-{next(_numbers)}"
    for change in changes:
        await store.merge(msgspec.structs.replace(change, call_id=call_id.encode()))
    call = await stored(store, call_id)
    return call.status, call.ending, call.data_status, call.has_transcript, call.facts.known()


@PROPERTY
@given(data=st.data())
async def test_any_order_and_any_repetition_of_messages_end_in_the_same_record(
    store: CallStore, data: st.DataObject
) -> None:
    changes = [change_from(body) for body in data.draw(st.lists(BODIES, min_size=2, max_size=6))]
    repeated = changes + data.draw(st.lists(st.sampled_from(changes), max_size=3))
    other_order = data.draw(st.permutations(repeated))

    assert await _facts_after(store, list(other_order)) == await _facts_after(store, changes)


@PROPERTY
@given(data=st.data())
async def test_any_order_and_any_repetition_of_changes_end_in_the_same_state(
    store: CallStore, data: st.DataObject
) -> None:
    changes = data.draw(st.lists(CHANGES, min_size=2, max_size=5))
    repeated = changes + data.draw(st.lists(st.sampled_from(changes), max_size=3))
    other_order = data.draw(st.permutations(repeated))

    assert await _state_after(store, list(other_order)) == await _state_after(store, changes)


async def test_a_reason_that_rules_out_an_analysis_counts_in_any_order(store: CallStore) -> None:
    report = change_of(ending=2)
    reason = change_of(rules_out_analysis=True, ended_reason='"customer-busy"')
    states = [await _state_after(store, list(order)) for order in itertools.permutations((report, reason))]
    assert states[0] == states[1]


@PROPERTY
@given(changes=st.lists(CHANGES, min_size=1, max_size=6))
async def test_each_fact_is_the_value_with_the_highest_stamp(store: CallStore, changes: list[CallChange]) -> None:
    status, ending, _, has_transcript, facts = await _state_after(store, changes)

    def winner(fact: str) -> bytes:
        said = [change for change in changes if getattr(change.facts, fact)]
        weighed = [(change.rank, change.timestamp_ms, getattr(change.facts, fact)) for change in said]
        return max(weighed, default=(0, 0, b""))[2]

    known = {fact: text for fact in FACTS if (text := winner(fact))}
    assert facts == known
    assert status == max(change.status for change in changes)
    assert ending == max(change.ending for change in changes)
    assert has_transcript == any(change.facts.transcript for change in changes)


@PROPERTY
@given(data=st.data())
async def test_messages_interleaved_over_replicas_end_in_the_same_record(
    replicas: list[CallStore], data: st.DataObject
) -> None:
    changes = [change_from(body) for body in data.draw(st.lists(BODIES, min_size=2, max_size=8))]
    order = data.draw(st.permutations(changes + changes))
    call_id = f"call-{next(_numbers)}"

    await asyncio.gather(
        *(
            replicas[number % 3].merge(msgspec.structs.replace(change, call_id=call_id.encode()))
            for number, change in enumerate(order)
        )
    )

    assert await merged_facts(replicas[0], call_id) == await _facts_after(replicas[0], changes)


@PROPERTY
@given(data=st.data())
async def test_the_samples_of_one_call_end_in_the_same_record_in_any_order(
    store: CallStore, data: st.DataObject
) -> None:
    names = [name for name in sample_names() if name != "session.created-no-call"]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=6, unique=True))
    changes = [change_from(sample(name)) for name in chosen]

    assert await _facts_after(store, list(data.draw(st.permutations(changes)))) == await _facts_after(store, changes)


async def test_every_order_of_a_calls_life_ends_in_the_same_complete_record(store: CallStore) -> None:
    life = [
        status_update("queued"),
        status_update("ended", endedReason="assistant-ended-call"),
        message("transcript", transcript="AI: Hel", customer={"number": "+18645550123"}),
        preliminary_report(),
        full_report(),
    ]
    changes = [change_from(body) for body in life]
    expected = await _facts_after(store, changes)

    for order in itertools.permutations(changes):
        assert await _facts_after(store, list(order)) == expected
    assert expected["data_status"] == "complete"
    assert expected["transcript"] == {"text": "AI: Hello.\nUser: Hi.\n"}
