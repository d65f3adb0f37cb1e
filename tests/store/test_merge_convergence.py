"""The merge converges: whatever the order, the repetitions and the replicas, the same messages give the same record."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.calls.facts import FACTS, Facts
from service.calls.stored_call import CallChange
from service.store.calls import CallStore
from tests.store.conftest import OpenedStore
from tests.support.store_events import change as change_of
from tests.support.store_events import change_from, merged_facts, stored
from tests.support.vapi_sender import full_report, message, preliminary_report, sample, sample_names, status_update

PROPERTY: Final = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

_numbers = itertools.count()

EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
TIMESTAMPS = st.sampled_from((None, 0, 1, 1000, 2000, "2026-09-01T12:00:00Z", "1970-01-01T00:00:02Z", 2**53, -5, "x"))
COMMON = st.fixed_dictionaries(
    {"timestamp": TIMESTAMPS},
    optional={
        "customer": st.sampled_from((*EMPTY, {"number": "+18645550123"}, {"number": "+18645550124"})),
        "endedReason": st.sampled_from(
            (*EMPTY, "voicemail", "customer-busy", "assistant-ended-call", "pipeline-error")
        ),
    },
)
CALLS = st.fixed_dictionaries(
    {"id": st.just("call-1")},
    optional={
        "status": st.sampled_from((*EMPTY, "queued", "ringing", "ended", "odd")),
        "assistantId": st.sampled_from((*EMPTY, "assistant-a", "assistant-b")),
        "metadata": st.sampled_from((*EMPTY, {"urgency": "immediate"}, {"urgency": "flexible", "own": 0})),
    },
)
STATUS_UPDATES = st.sampled_from(("scheduled", "queued", "ringing", "in-progress", "forwarding", "ended", "odd", None))
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "durationSeconds": st.sampled_from((*EMPTY, 0, 26.26, "61")),
        "cost": st.sampled_from((*EMPTY, 0, 0.5, "x")),
        "startedAt": st.sampled_from((*EMPTY, "2026-09-01T12:00:00.000Z", 1_788_264_000)),
        "endedAt": st.sampled_from((*EMPTY, "2026-09-01T12:01:30.000Z")),
        "analysis": st.sampled_from((*EMPTY, {"summary": ""}, {"summary": "A"}, {"structuredData": {"a": 1}})),
        "artifact": st.sampled_from(
            (*EMPTY, {"transcript": "AI: Hi."}, {"transcript": "AI: Hi. Bye.", "messages": [1]}, {"messages": [2, {}]})
        ),
    },
)


def _body(type_: str, *parts: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"type": type_}
    for part in parts:
        content |= part
    return {"message": content}


BODIES = st.one_of(
    st.builds(lambda common, call, status: _body("status-update", common, {"call": call, "status": status}),
              COMMON, CALLS, STATUS_UPDATES),
    st.builds(lambda common, call, results: _body("end-of-call-report", common, {"call": call}, results),
              COMMON, CALLS, RESULTS),
    st.builds(lambda common, call: _body("speech-update", common, {"call": call}), COMMON, CALLS),
)  # fmt: skip

FRAGMENTS = st.sampled_from((b'"a"', b'"b"', b'"ba"', '"ä"'.encode()))
CHANGES = st.builds(
    CallChange,
    call_id=st.just(b"call-1"),
    rank=st.integers(0, 9),
    timestamp_ms=st.sampled_from((0, 0, 1, 2, 2**53 - 1)),
    status=st.integers(0, 6),
    ending=st.integers(0, 3),
    rules_out_analysis=st.booleans(),
    facts=st.dictionaries(st.sampled_from(FACTS), FRAGMENTS, max_size=12).map(lambda texts: Facts(**texts)),
)


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
