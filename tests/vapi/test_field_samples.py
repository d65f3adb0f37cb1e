"""Bodies of kinds that people met: each is read as its README in tests/samples/vapi/field says."""

from __future__ import annotations

from typing import Any

from service.calls.record import render_record
from service.calls.status import DataStatus
from tests.support.call_record import change_by, record_of, stored_by
from tests.support.vapi_sender import SAMPLES, message

FIELD = SAMPLES / "field"


def record(name: str) -> dict[str, Any]:
    return record_of((FIELD / f"{name}.json").read_bytes())


def test_a_call_on_which_only_the_assistant_spoke_is_not_reliable() -> None:
    silent = record("silent-call")
    assert (silent["customer_spoke"], silent["analysis_reliable"]) == (False, False)


def test_messages_tell_who_spoke_where_the_transcript_is_switched_off() -> None:
    spoken = record("messages-without-transcript")
    assert (spoken["customer_spoke"], spoken["analysis_reliable"]) == (True, True)


def test_a_busy_voice_provider_is_no_busy_line() -> None:
    busy = record("voice-provider-busy")
    assert (busy["outcome"], busy["retry"], busy["analysis_reliable"]) == ("failed", "soon", True)


def test_a_call_that_the_sip_side_completed_is_completed() -> None:
    completed = record("sip-completed-call")
    assert (completed["outcome"], completed["retry"]) == ("completed", None)


def test_structured_outputs_alone_complete_a_record() -> None:
    assert record("report-only-structured-outputs")["data_status"] == "complete"


def test_the_reason_of_a_running_call_is_a_passing_state() -> None:
    assert record("ended-reason-while-running")["ended_reason"] is None


def test_a_report_of_zero_duration_and_cost_is_preliminary() -> None:
    assert record("premature-report")["data_status"] == "partial"


def test_a_transcript_that_is_a_list_becomes_lines() -> None:
    listed = record("transcript-as-list")
    assert listed["transcript"] == {"text": "AI: Are you free on Thursday?\nUser: Yes, at nine.\n"}
    assert listed["analysis_reliable"] is True


OUTPUTS = {"structuredOutputs": {"u": {"name": "call_summary", "result": "They can."}}}


def test_a_report_without_the_outputs_that_were_asked_for_is_preliminary() -> None:
    asked = {"artifactPlan": {"structuredOutputIds": ["u"]}}
    asking: list[dict[str, Any]] = [
        {"assistant": asked},
        {"call": {"id": "c", "assistant": asked}},
        {"call": {"id": "c", "assistantOverrides": asked}},
        {"call": {"id": "c", **asked}},
        {"assistant": {"artifactPlan": {"structuredOutputs": [{"name": "a"}]}}},
    ]
    for fields in asking:
        body = {"analysis": {"summary": "They can."}, "durationSeconds": 40, **fields}
        report = message("end-of-call-report", **body)
        assert record_of(report)["data_status"] == "partial", fields
        arrived = message("end-of-call-report", **body, artifact=OUTPUTS)
        assert record_of(arrived)["data_status"] == "complete", fields
        skipped = message("end-of-call-report", **body, artifact={"skippedStructuredOutputs": {"u": {"reason": "x"}}})
        assert record_of(skipped)["data_status"] == "complete", fields


def test_a_call_deleted_at_vapi_is_complete_and_any_other_reason_outranks_its_own() -> None:
    deleted = change_by(message("call.deleted", timestamp=1_788_264_050_000))
    assert stored_by(deleted).data_status == DataStatus.COMPLETE
    assert deleted.facts.ended_reason == b'"call-deleted"'
    ended = change_by(message("status-update", status="ended", endedReason="customer-ended-call", timestamp=1))
    forwarding = change_by(message("status-update", status="forwarding", timestamp=1_999_999_999_999))
    assert forwarding.stamp < deleted.stamp < ended.stamp
    assert render_record(stored_by(deleted), "summary")


def test_where_a_call_was_forwarded_to_and_of_which_type_it_was() -> None:
    call = {"id": "c", "type": "outboundPhoneCall"}
    destinations: list[tuple[Any, str | None]] = [
        ({"type": "number", "number": "+1 (864) 555-0123"}, "+18645550123"),
        ({"type": "sip", "sipUri": "sip:desk@example.com"}, "sip:desk@example.com"),
        ({"type": "assistant", "assistantName": "Other"}, None),
        (None, None),
        ("text", None),
    ]
    for destination, expected in destinations:
        record = record_of(message("end-of-call-report", call=call, destination=destination))
        assert (record["forwarded_to"], record["call_type"]) == (expected, "outboundPhoneCall"), destination
