"""From an answer of VAPI's API to its change: what it weighs, what it says, and what of it is never kept."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest

from service.calls.status import ENDED, Ending, Rank
from service.calls.stored_call import CallChange
from service.errors import InvalidMessageError
from service.vapi.api_call import change_of_api_call
from tests.support.call_record import change_by
from tests.support.for_each import for_each
from tests.support.vapi_sender import sample

CONTEXT: dict[str, Any] = {
    "customer": {"number": "+1 (864) 555-0123", "name": "Acme"},
    "phoneNumberId": "number-1",
    "assistantId": "assistant-1",
    "metadata": {"providerName": "Acme", "serviceNeeded": "plumbing", "own": 1},
    "assistantOverrides": {"metadata": {"serviceRequestId": "request-1"}},
}
RESULTS: dict[str, Any] = {
    "endedReason": "assistant-ended-call",
    "startedAt": "2026-09-01T12:00:19.000Z",
    "endedAt": "2026-09-01T12:00:45.260Z",
    "transcript": "AI: Hello.",
    "messages": [{"role": "bot", "message": "Hello."}],
    "recordingUrl": "https://storage.example/a.wav?X-Amz-Signature=abc",
    "cost": 0.1187,
}
ANALYSIS: dict[str, Any] = {
    "summary": "They said hello.",
    "structuredData": {"disqualified": False},
    "successEvaluation": "true",
}


def change_of(*, expects_analysis: bool = True, **call: Any) -> CallChange:
    body = json.dumps({"id": "call-1", **call}).encode()
    return change_of_api_call(body, expects_analysis=expects_analysis)


def facts_in(change: CallChange) -> dict[str, Any]:
    return {name: json.loads(fragment) for name, fragment in change.facts.known().items()}


def weight_of(change: CallChange) -> tuple[int, int, int]:
    return change.rank, change.status, change.ending


@pytest.mark.parametrize(
    ("status", "position"),
    [("scheduled", 1), ("queued", 2), ("ringing", 3), ("in-progress", 4), ("forwarding", 5)],
)
def test_a_running_call_weighs_as_much_as_its_status_which_is_no_snapshot(status: str, position: int) -> None:
    assert weight_of(change_of(status=status)) == (position, position, Ending.NONE)


@for_each("status", ["not-found", "deletion-failed", "Ended", "", None, [], {}, "a status of 2027"])
def test_any_other_status_weighs_nothing_and_gives_none(status: object) -> None:
    assert weight_of(change_of(status=status)) == (Rank.OTHER_MESSAGE, 0, Ending.NONE)


def test_a_call_without_a_status_gives_none() -> None:
    assert weight_of(change_of(**CONTEXT)) == (Rank.OTHER_MESSAGE, 0, Ending.NONE)


@for_each(
    "fields",
    [
        {"analysis": {"summary": "They spoke."}},
        {"analysis": {"structuredData": {"a": None}}},
        {"analysis": {"structuredDataMulti": [{"key": {}}]}},
        {"analysis": {"successEvaluation": False}},
        {"summary": "They spoke."},
    ],
)
@for_each("reason", ["assistant-ended-call", "voicemail"])
def test_an_ended_call_with_analysis_is_a_full_report_with_analysis(fields: dict[str, Any], reason: str) -> None:
    change = change_of(status="ended", endedReason=reason, **fields)
    assert weight_of(change) == (Rank.FULL_REPORT_WITH_ANALYSIS, ENDED, Ending.FULL_REPORT)


NO_ANALYSIS: list[dict[str, Any]] = [{}, {"analysis": None}, {"analysis": {}}, {"analysis": {"summary": "", "x": 1}}]


@for_each("fields", NO_ANALYSIS)
@for_each("reason", ["voicemail", "customer-busy", "customer-did-not-answer", "manually-canceled"])
def test_an_ended_call_after_which_none_can_come_is_a_full_report(fields: dict[str, Any], reason: str) -> None:
    change = change_of(status="ended", endedReason=reason, **fields)
    assert weight_of(change) == (Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)


@for_each("fields", NO_ANALYSIS)
@for_each("reason", ["assistant-ended-call", "pipeline-error-x", None])
def test_an_ended_call_whose_analysis_may_still_come_is_preliminary(fields: dict[str, Any], reason: str | None) -> None:
    change = change_of(status="ended", endedReason=reason, cost=0.1, **fields)
    assert weight_of(change) == (Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)


@pytest.mark.parametrize("fields", NO_ANALYSIS)
def test_where_no_analysis_is_expected_every_ended_call_is_a_full_report(fields: dict[str, Any]) -> None:
    change = change_of(expects_analysis=False, status="ended", endedReason="assistant-ended-call", **fields)
    assert weight_of(change) == (Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)


@pytest.mark.parametrize(
    ("updated_at", "timestamp_ms"),
    [
        ("2026-09-01T12:00:45.260Z", 1_788_264_045_260),
        (1_788_264_045_260, 1_788_264_045_260),
        ("yesterday", 0), (None, 0), ([], 0), (-1, 0), (2**53, 0),
    ],
)  # fmt: skip
def test_the_stamp_is_when_vapi_updated_the_call(updated_at: object, timestamp_ms: int) -> None:
    assert change_of(updatedAt=updated_at).timestamp_ms == timestamp_ms


def test_without_a_time_the_stamp_is_zero() -> None:
    assert change_of(createdAt="2026-09-01T12:00:00Z").timestamp_ms == 0


def test_the_context_is_that_of_a_webhook() -> None:
    assert facts_in(change_of(status="queued", **CONTEXT)) == {
        "customer_phone": "+18645550123",
        "assistant_id": "assistant-1",
        "phone_number_id": "number-1",
        "provider_name": "Acme",
        "service_type": "plumbing",
        "service_request_id": "request-1",
        "metadata": {"providerName": "Acme", "serviceNeeded": "plumbing", "own": 1, "serviceRequestId": "request-1"},
    }


def test_the_prompts_variables_serve_where_the_metadata_are_silent() -> None:
    change = change_of(artifact={"variableValues": {"urgency": "immediate"}}, assistant={"id": "inline"})
    assert facts_in(change) == {"urgency": "immediate", "assistant_id": "inline"}


def test_an_ended_call_gives_its_results_from_the_top_level() -> None:
    assert facts_in(change_of(status="ended", analysis=ANALYSIS, **RESULTS)) == {
        "ended_reason": "assistant-ended-call",
        "started_at": "2026-09-01T12:00:19.000Z",
        "ended_at": "2026-09-01T12:00:45.260Z",
        "customer_spoke": False,
        "transcript": "AI: Hello.",
        "messages": [{"role": "bot", "message": "Hello."}],
        "recording_url": "https://storage.example/a.wav",
        "cost": 0.1187,
        "analysis_summary": "They said hello.",
        "analysis_structured_data": {"disqualified": False},
        "analysis_success_evaluation": "true",
    }


def test_the_artifact_outweighs_the_top_level() -> None:
    artifact = {
        "transcript": "The artifact's.",
        "recording": {"mono": {"combinedUrl": "https://storage.example/mono.wav"}},
        "structuredOutputs": {"uuid-1": {"name": "grade", "result": 5}},
    }
    facts = facts_in(change_of(status="ended", artifact=artifact, transcript="The top's."))
    assert facts["transcript"] == "The artifact's."
    assert facts["recording_url"] == "https://storage.example/mono.wav"
    assert facts["structured_outputs"] == {"grade": 5}


def test_the_cost_of_an_ended_call_is_true_also_when_it_is_zero() -> None:
    assert facts_in(change_of(status="ended", cost=0))["cost"] == 0


@pytest.mark.parametrize("status", ["queued", "in-progress", "not-found"])
def test_a_call_that_has_not_ended_gives_no_results(status: str) -> None:
    assert facts_in(change_of(status=status, analysis=ANALYSIS, **RESULTS)) == {}


def test_it_says_what_the_report_of_the_same_call_says() -> None:
    message = sample("outbound-end-of-call-report-full")["message"]
    by_report = change_by({"message": message})
    top_level = {name: value for name, value in message.items() if name not in ("call", "type", "timestamp")}
    by_api = change_of(**{**message["call"], **top_level, "status": "ended"})
    assert (by_api.call_id, facts_in(by_api)) == (by_report.call_id, facts_in(by_report))
    assert weight_of(by_api) == weight_of(by_report)


def test_no_secret_is_kept() -> None:
    change = change_of(
        status="ended",
        monitor={"controlUrl": "wss://MUST-NOT-BE-STORED"},
        phoneNumber={"id": "n", "twilioAuthToken": "MUST-NOT-BE-STORED"},
        assistant={"id": "a", "server": {"secret": "MUST-NOT-BE-STORED", "headers": {"x": "MUST-NOT-BE-STORED"}}},
        artifact={"variableValues": {"phoneNumber": {"twilioAuthToken": "MUST-NOT-BE-STORED"}}},
        recordingUrl="https://storage.example/a.wav?X-Amz-Signature=MUST-NOT-BE-STORED",
        **CONTEXT,
    )
    assert b"MUST-NOT" not in msgspec.msgpack.encode(change)


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    body = rb'{"id":"call-1","status":"ended","transcript":"cut \ud83d","updatedAt":"2026-09-01T12:00:45Z"}'
    change = change_of_api_call(body, expects_analysis=True)
    assert facts_in(change)["transcript"] == "cut \ufffd"
    assert change.timestamp_ms > 0


ODD: list[object] = [None, 5, "x", [], ["x"], {}, {"x": {"y": []}}, True, "\ud83d"]
FIELDS = ["status", "analysis", "artifact", "customer", "assistant", "assistantOverrides", "phoneNumber", "metadata"]
FIELDS += ["endedReason", "startedAt", "cost", "messages", "transcript", "recordingUrl", "updatedAt", "costBreakdown"]


@for_each(("name", "value"), list(itertools.product(FIELDS, ODD)))
def test_a_field_of_an_odd_type_costs_nothing_but_itself(name: str, value: object) -> None:
    call = {"status": "ended", "endedAt": "2026-09-01T12:00:45.260Z", "analysis": ANALYSIS, **RESULTS, name: value}
    change = change_of(**call)
    assert change.call_id == b"call-1"
    assert name == "status" or facts_in(change)["ended_at"] == "2026-09-01T12:00:45.260Z"


@for_each(
    "body",
    [
        b"", b"nonsense", b"null", b"5", b'"text"', b"[]", b'[{"id":"call-1"}]', b"{}", b'{"id":null}', b'{"id":".a"}',
        b'{"id":["a"]}', b'{"id":"a/b"}', b'{"id":"a"', b'{"id":"a"}}', b'{"id":"a"},{"id":"b"}', b'{"id":NaN}',
        b'{"id":"a"}},"more":{"b":{"c":1}', b"\xff", b'{"id":"a","x":"\xff"}',
        b'{"id":"a","x":' + b"[" * 1000 + b"]" * 1000 + b"}", b'{"id":"a","x":' + b"[" * 100_000, b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        change_of_api_call(body, expects_analysis=True)
