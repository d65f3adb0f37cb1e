"""The rarer messages converge, too: deleted calls, structured outputs, transfers, odd speech, and answers of VAPI's API."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.calls.stored_call import CallChange
from service.store.calls import CallStore
from service.vapi.api_call import change_of_api_call
from tests.support.store_events import change_from, merged_facts
from tests.support.vapi_sender import SAMPLES

PROPERTY: Final = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
SAID: Final = {"role": "user", "message": "Yes."}
ASKED: Final = {"artifactPlan": {"structuredOutputIds": ["u"]}}
PLANS: Final = (None, ASKED, {"artifactPlan": {"recordingEnabled": "false"}}, {"artifactPlan": {"transcriptPlan": 5}})
RESULTS: Final[list[dict[str, Any]]] = [
    {},
    {"transcript": [{"role": "user", "message": "Yes."}]},
    {"transcript": "AI: Hi."},
    {"transcript": " \u00a0"},
    {"messages": [{"role": "bot", "message": "Hi."}]},
    {"messages": [SAID], "recordingUrl": "https://a.example/b.wav"},
    {"structuredOutputs": {"u": {"name": "call_summary", "result": "They can."}}},
    {"structuredOutputs": {"u": {"name": "call_summary", "result": None}}},
    {"skippedStructuredOutputs": {"u": {"reason": "too short"}}},
]
REASONS: Final = (None, " ", "customer-busy", "customer-ended-call", "call.ringing.hook-executed-say", "call-deleted")
DESTINATIONS: Final = (
    None,
    "x",
    {"number": "+1 864 555 0123"},
    {"sipUri": "sip:desk@example.com"},
    {"type": "assistant"},
)

_numbers = itertools.count()


@st.composite
def webhooks(draw: st.DrawFn) -> CallChange:
    type_ = draw(st.sampled_from(("end-of-call-report", "status-update", "call.deleted", "call.delete.failed", "hang")))
    call: dict[str, Any] = {"id": "c", "type": draw(st.sampled_from((None, "webCall", "inboundPhoneCall")))}
    place = draw(st.sampled_from(("metadata", "assistantOverrides", "squadOverrides", "workflowOverrides")))
    metadata = draw(st.sampled_from(({"urgency": "immediate"}, {"urgency": "", "own": 1}, 5)))
    call[place] = metadata if place == "metadata" else {"metadata": metadata}
    body = {
        "type": type_,
        "timestamp": draw(st.sampled_from((None, 1, 2, "3", 2**53 - 1, "2026-09-01T12:00:00Z"))),
        "status": draw(st.sampled_from(("in-progress", "forwarding", "ended", "not-found", None))),
        "endedReason": draw(st.sampled_from(REASONS)),
        "artifact": draw(st.sampled_from(RESULTS)),
        "analysis": draw(st.sampled_from((None, {}, {"summary": " "}, {"summary": "They can."}))),
        "costBreakdown": draw(st.sampled_from((None, {"total": "0"}, {"total": 0.004}))),
        "durationMs": draw(st.sampled_from((0, None, 1))),
        "destination": draw(st.sampled_from(DESTINATIONS)),
        "assistant": draw(st.sampled_from(PLANS)),
        "call": call,
    }
    return change_from({"message": body})


@st.composite
def answers(draw: st.DrawFn) -> CallChange:
    call = {
        "id": "c",
        "status": draw(st.sampled_from(("queued", "in-progress", "ended", "deletion-failed"))),
        "endedReason": draw(st.sampled_from(REASONS)),
        "updatedAt": draw(st.sampled_from((None, 1, 2, "2026-09-01T12:00:00Z"))),
        "artifact": draw(st.sampled_from(RESULTS)),
        "analysis": draw(st.sampled_from((None, {}, {"summary": "They cannot."}))),
        **(draw(st.sampled_from(PLANS)) or {}),
    }
    return change_of_api_call(json.dumps(call).encode(), expects_analysis=True)


async def record_after(store: CallStore, changes: list[CallChange]) -> dict[str, Any]:
    call_id = f"call-{next(_numbers)}"
    for change in changes:
        await store.merge(msgspec.structs.replace(change, call_id=call_id.encode()))
    return await merged_facts(store, call_id)


@PROPERTY
@given(data=st.data())
async def test_any_order_and_any_repetition_end_in_the_same_record(store: CallStore, data: st.DataObject) -> None:
    changes = data.draw(st.lists(st.one_of(webhooks(), answers()), min_size=2, max_size=6))
    repeated = changes + data.draw(st.lists(st.sampled_from(changes), max_size=3))
    other_order = list(data.draw(st.permutations(repeated)))

    assert await record_after(store, other_order) == await record_after(store, changes)


@PROPERTY
@given(data=st.data())
async def test_a_call_deleted_at_vapi_is_complete_in_every_order(store: CallStore, data: st.DataObject) -> None:
    others = data.draw(st.lists(st.one_of(webhooks(), answers()), max_size=5))
    deleted = change_from({"message": {"type": "call.deleted", "timestamp": 5, "call": {"id": "c"}}})

    record = await record_after(store, list(data.draw(st.permutations([deleted, *others]))))

    assert (record["data_status"], record["status"]) == ("complete", "ended")
    assert record["ended_reason"]


async def test_a_report_that_came_too_early_is_completed_by_vapis_api_in_either_order(store: CallStore) -> None:
    field = SAMPLES / "field"
    early = change_from(json.loads((field / "premature-report.json").read_bytes()))
    answer = change_of_api_call((field / "premature-report-then-api.json").read_bytes(), expects_analysis=True)

    assert (await record_after(store, [early]))["data_status"] == "partial"
    for order in ([early, answer], [answer, early], [early, answer, early]):
        record = await record_after(store, order)
        assert (record["data_status"], record["outcome"], record["analysis_reliable"]) == (
            "complete",
            "completed",
            True,
        )
        assert record["cost"] == 0.05
