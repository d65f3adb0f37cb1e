"""Each of VAPI's sample messages, and the record that it alone makes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from service.calls.call_record import CallRecord
from service.calls.record import View, render_record
from service.calls.status import CALL_DELETED_OFFSET_MS, CALL_DELETED_RANK, Ending, Rank
from tests.support.call_record import STORED_AT_MS, change_by, intake_of, record_of, stored_by
from tests.support.for_each import for_each
from tests.support.vapi_sender import SAMPLE_CALL_ID, sample, sample_bytes, sample_names

FULL = sample("outbound-end-of-call-report-full")["message"]
PROVIDER = FULL["call"]["metadata"]
MONO = f"https://acct.r2.cloudflarestorage.com/hipaa-recordings/{SAMPLE_CALL_ID}-mono.wav"

BARE: dict[str, Any] = {
    **dict.fromkeys(field.name for field in msgspec.structs.fields(CallRecord)),
    "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:vapi:call:{SAMPLE_CALL_ID}")),
    "call_id": SAMPLE_CALL_ID,
    "created_at": "2026-09-01T12:00:50.000Z",
    "updated_at": "2026-09-01T12:00:50.000Z",
    "expires_at": "2026-09-01T12:30:50.000Z",
    "data_status": "pending",
    "metadata": {},
    "version": 1,
}
"""A record of which nothing is known but the call's id."""

CONTEXT = BARE | {
    "status": "queued",
    "call_type": "outboundPhoneCall",
    "customer_phone": "+18645550123",
    "phone_number_id": "22222222-2222-4222-8222-222222222222",
    "provider_name": "Acme Plumbing & Söhne",
    "provider_phone": "+18645550123",
    "service_type": "plumber",
    "location": "Greenville, SC",
    "user_criteria": "licensed; weekend; <$150/h",
    "urgency": "within_24_hours",
    "service_request_id": "0b9f5c1e-6f0a-4a59-9a55-5a6de2a1b001",
    "metadata": PROVIDER,
}
"""What every message of that call says."""

ENDED = CONTEXT | {
    "status": "ended",
    "ended_reason": "assistant-ended-call",
    "outcome": "completed",
    "data_status": "partial",
}
TALKED = ENDED | {
    "started_at": "2026-09-01T12:00:19.000Z",
    "ended_at": "2026-09-01T12:00:45.260Z",
    "duration_minutes": 0.44,
    "customer_spoke": True,
    "transcript": {"text": FULL["artifact"]["transcript"]},
    "messages": FULL["artifact"]["messages"],
}
COMPLETE = TALKED | {
    "data_status": "complete",
    "analysis_reliable": True,
    "recording_url": MONO,
    "cost": 0.1187,
    "analysis_summary": "The provider can come tomorrow at 2pm for $120/hour plus a trip fee.",
    "analysis_structured_data": FULL["analysis"]["structuredData"],
    "analysis_success_evaluation": "true",
    "structured_outputs": {
        "ProviderOutcome": FULL["analysis"]["structuredData"],
        "Call Summary": "The provider can come tomorrow at 2pm for $120/hour plus a trip fee.",
        "CSAT": 8,
    },
}
VOICEMAIL = sample("outbound-end-of-call-report-voicemail")["message"]

RECORDS: dict[str, dict[str, Any] | None] = {
    "session.created-no-call": None,
    "unknown-future-type": BARE,
    "hang": CONTEXT,
    "transcript-partial": CONTEXT,
    "transcript-final": CONTEXT,
    "call.deleted": CONTEXT
    | {
        "status": "ended",
        "ended_reason": "call-deleted",
        "outcome": "cancelled",
        "data_status": "complete",
        "analysis_reliable": False,
    },
    "call.artifact.upload": CONTEXT,
    "outbound-status-update-scheduled": CONTEXT,
    "outbound-status-update-queued": CONTEXT,
    "outbound-status-update-ringing": CONTEXT | {"status": "ringing"},
    "outbound-status-update-in-progress": CONTEXT | {"status": "in-progress"},
    "outbound-status-update-forwarding": CONTEXT | {"status": "forwarding"},
    "outbound-status-update-ended": ENDED,
    "outbound-end-of-call-report-preliminary": TALKED,
    "outbound-end-of-call-report-full": COMPLETE,
    "outbound-end-of-call-report-full-redelivered": COMPLETE,
    "outbound-end-of-call-report-no-answer-minimal": ENDED
    | {
        "ended_reason": "customer-did-not-answer",
        "outcome": "no_answer",
        "retry": "later",
        "ended_at": "2026-09-01T12:00:30.000Z",
        "cost": 0,
        "data_status": "complete",
        "analysis_reliable": False,
    },
    "outbound-end-of-call-report-voicemail": COMPLETE
    | {
        "ended_reason": "voicemail",
        "outcome": "voicemail",
        "retry": "later",
        "customer_spoke": False,
        "analysis_reliable": False,
        "analysis_summary": "Participants confirmed the launch date remains next Monday.",
        "analysis_structured_data": VOICEMAIL["analysis"].get("structuredData") or None,
        "analysis_success_evaluation": "false",
        "structured_outputs": None,
        "transcript": {"text": VOICEMAIL["artifact"]["transcript"]},
        "messages": VOICEMAIL["artifact"]["messages"],
    },
    "end-of-call-report-odd-types": BARE
    | {
        "status": "ended",
        "customer_phone": "+18645550123",
        "ended_reason": "call.in-progress.error-brand-new-2027-reason",
        "outcome": "failed",
        "customer_spoke": False,
        "data_status": "complete",
        "analysis_reliable": False,
        "recording_url": "https://example.invalid/flat-string.wav",
        "analysis_structured_data": [{"availability": "available"}],
        "analysis_success_evaluation": "true",
        "cost": 0.12,
        "messages": [
            {"role": "bot", "message": None, "time": 1788264019000.9998, "secondsFromStart": -0.25},
            "not-an-object",
        ],
    },
}

WITH_CALL = [name for name in sample_names() if RECORDS[name] is not None]


def test_every_sample_is_here() -> None:
    assert sorted(RECORDS) == sample_names()


@for_each("name", sample_names())
def test_a_sample_has_no_field_that_must_be_dropped(name: str) -> None:
    assert intake_of(sample_bytes(name)).dropped == 0


@for_each("name", WITH_CALL)
def test_the_full_record_says_what_the_sample_says(name: str) -> None:
    assert record_of(sample_bytes(name)) == RECORDS[name]


@for_each("name", WITH_CALL)
def test_the_summary_says_the_same_without_transcript_and_messages(name: str) -> None:
    full = RECORDS[name]
    assert full is not None
    expected = {field: value for field, value in full.items() if field not in {"transcript", "messages"}}
    assert record_of(sample_bytes(name), "summary") == expected


@for_each("view", ["full", "summary"])
@for_each("name", WITH_CALL)
def test_the_text_is_a_call_record(name: str, view: View) -> None:
    text = render_record(stored_by(change_by(sample_bytes(name))), view)
    record = msgspec.json.decode(text, type=CallRecord, strict=True)
    assert json.loads(msgspec.json.encode(record)).items() >= json.loads(text).items()


@for_each(
    ("name", "rank", "timestamp_ms", "ending"),
    [
        ("unknown-future-type", Rank.OTHER_MESSAGE, 1788264000000, Ending.NONE),
        ("call.deleted", CALL_DELETED_RANK, CALL_DELETED_OFFSET_MS + 1788264135260, Ending.FULL_REPORT),
        ("outbound-status-update-in-progress", 4, 1788264019050, Ending.NONE),
        ("outbound-status-update-ended", 6, 1788264045460, Ending.OVER),
        ("outbound-end-of-call-report-preliminary", Rank.PRELIMINARY_REPORT, 1788264046160, Ending.PRELIMINARY_REPORT),
        (
            "outbound-end-of-call-report-no-answer-minimal",
            Rank.PRELIMINARY_REPORT,
            1788264031000,
            Ending.PRELIMINARY_REPORT,
        ),
        ("outbound-end-of-call-report-full", Rank.FULL_REPORT_WITH_ANALYSIS, 1788264049560, Ending.FULL_REPORT),
        ("end-of-call-report-odd-types", Rank.FULL_REPORT_WITH_ANALYSIS, 1788264060000, Ending.FULL_REPORT),
    ],
)
def test_a_sample_weighs_what_its_kind_weighs(name: str, rank: int, timestamp_ms: int | None, ending: int) -> None:
    change = change_by(sample_bytes(name))
    expected_ms = timestamp_ms or sample(name)["message"]["timestamp"]
    assert (change.rank, change.timestamp_ms, change.ending) == (rank, expected_ms, ending)


def test_a_report_delivered_again_states_the_same_facts() -> None:
    first = change_by(sample_bytes("outbound-end-of-call-report-full"))
    again = change_by(sample_bytes("outbound-end-of-call-report-full-redelivered"))
    assert again.facts == first.facts
    assert sample_bytes("outbound-end-of-call-report-full") != sample_bytes(
        "outbound-end-of-call-report-full-redelivered"
    )


def test_the_records_times_are_the_stores() -> None:
    record = record_of(sample_bytes("hang"))
    assert record["created_at"] == record["updated_at"] == "2026-09-01T12:00:50.000Z"
    assert STORED_AT_MS == 1_788_264_050_000
