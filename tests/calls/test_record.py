"""The record as a poll returns it, put together from stored fragments."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest

from service.calls.call_record import CallRecord
from service.calls.facts import SMALL_FACTS
from service.calls.record import (
    View,
    duration_minutes_of,
    iso_of,
    meaning_of_call,
    record_id,
    render_record,
)
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall
from tests.support.call_record import EMPTY, call_with

BARE: dict[str, Any] = {
    "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "urn:vapi:call:call-1")),
    "call_id": "call-1",
    **dict.fromkeys(field.name for field in msgspec.structs.fields(CallRecord)[2:]),
    "created_at": "2026-09-01T12:00:50.000Z",
    "updated_at": "2026-09-01T12:00:50.000Z",
    "data_status": "pending",
    "metadata": {},
    "expires_at": "2026-09-01T12:30:50.000Z",
    "version": 1,
}


def rendered(call: StoredCall, view: View = "full") -> dict[str, Any]:
    """Also checks that the text is a CallRecord."""
    text = render_record(call, view)
    msgspec.json.decode(text, type=CallRecord, strict=True)
    record: dict[str, Any] = json.loads(text)
    return record


def test_a_record_of_which_nothing_is_known_has_every_field() -> None:
    assert rendered(EMPTY) == BARE


def test_the_fields_come_in_the_documented_order() -> None:
    assert list(rendered(EMPTY)) == [field.name for field in msgspec.structs.fields(CallRecord)]


def test_every_fact_appears_under_its_name() -> None:
    texts = {name: f"value of {name}" for name in SMALL_FACTS}
    facts = {name: msgspec.json.encode(text) for name, text in texts.items()}
    facts |= {
        "duration_minutes": b"0.44",
        "cost": b"1.187e-1",
        "customer_spoke": b"true",
        "metadata": b'{"a":[1,null]}',
        "transcript": '"Grüß Gott \\ud83d\\ude00"'.encode(),
        "messages": b'[{"role":"bot"}]',
        "analysis_structured_data": b"[false]",
        "structured_outputs": b'{"CSAT":8}',
    }
    expected = texts | {
        "duration_minutes": 0.44,
        "cost": 0.1187,
        "customer_spoke": True,
        "metadata": {"a": [1, None]},
        "transcript": {"text": "Grüß Gott 😀"},
        "messages": [{"role": "bot"}],
        "analysis_structured_data": [False],
        "structured_outputs": {"CSAT": 8},
    }
    for name in ("recording_enabled", "outputs_awaited"):
        del expected[name]  # they are for the late refresh
    expected |= {"data_status": "partial", "outcome": "failed"}
    assert rendered(call_with(facts, data_status=DataStatus.PARTIAL)) == BARE | expected


def test_the_summary_leaves_out_transcript_and_messages_and_nothing_else() -> None:
    call = call_with(
        {
            "transcript": b'"Hello."',
            "messages": b"[1]",
            "analysis_structured_data": b'{"a":1}',
            "structured_outputs": b'{"b":2}',
        }
    )
    full = rendered(call)
    assert (full.pop("transcript"), full.pop("messages")) == ({"text": "Hello."}, [1])
    assert rendered(call, "summary") == full


@pytest.mark.parametrize(
    ("position", "status"),
    [*enumerate([None, "scheduled", "queued", "ringing", "in-progress", "forwarding", "ended"])],
)
def test_the_status_is_the_one_at_its_position(position: int, status: str | None) -> None:
    assert rendered(call_with(status=position))["status"] == status


@pytest.mark.parametrize(
    ("data_status", "name"), [*zip(DataStatus, ["pending", "partial", "complete", "fetch_failed"], strict=True)]
)
def test_the_data_status_has_its_name(data_status: DataStatus, name: str) -> None:
    assert rendered(call_with(data_status=data_status))["data_status"] == name


@pytest.mark.parametrize("data_status", DataStatus)
@pytest.mark.parametrize(
    ("reason", "outcome"), [(b'"voicemail"', "voicemail"), (b'"assistant-ended-call"', "completed"), (b"", None)]
)
def test_the_outcome_is_null_while_the_call_runs_or_no_reason_is_known(
    data_status: DataStatus, reason: bytes, outcome: str | None
) -> None:
    call = call_with({"ended_reason": reason}, data_status=data_status)
    expected = None if data_status == DataStatus.PENDING else outcome
    meaning = meaning_of_call(call)
    assert rendered(call)["outcome"] == (meaning and meaning.outcome) == expected


RELIABLE: list[tuple[bytes, bytes, bool, bool]] = [
    # ended reason, customer_spoke, has_transcript, reliable
    (b'"assistant-ended-call"', b"true", True, True),
    (b'"assistant-ended-call"', b"true", False, True),
    (b'"assistant-ended-call"', b"false", True, False),
    (b'"assistant-ended-call"', b"", False, False),
    (b'"pipeline-error-eleven-labs-system-busy-and-requested-upgrade"', b"true", True, True),
    (b'"voicemail"', b"true", True, False),
    (b'"customer-did-not-answer"', b"true", True, False),
    (b'"customer-busy"', b"false", False, False),
    (b"", b"true", True, True),
]


@pytest.mark.parametrize("data_status", DataStatus)
def test_an_analysis_is_reliable_when_the_customer_spoke_and_null_until_the_record_is_final(
    data_status: DataStatus,
) -> None:
    for reason, spoke, has_transcript, reliable in RELIABLE:
        facts = {"ended_reason": reason, "customer_spoke": spoke}
        call = call_with(facts, data_status=data_status, has_transcript=has_transcript)
        expected = reliable if data_status.is_final else None
        assert rendered(call)["analysis_reliable"] is expected, (reason, spoke, has_transcript)


def test_a_record_of_the_version_that_did_not_tell_who_spoke_goes_by_its_transcript() -> None:
    for has_transcript in (True, False):
        facts = {"ended_reason": b'"assistant-ended-call"'}
        call = call_with(facts, data_status=DataStatus.COMPLETE, has_transcript=has_transcript)
        assert rendered(call)["analysis_reliable"] is has_transcript


def test_a_passing_state_that_the_version_before_stored_is_no_reason_while_the_call_runs() -> None:
    facts = {"ended_reason": b'"call.in-progress.sip-completed-call"'}
    assert rendered(call_with(facts))["ended_reason"] is None
    ended = rendered(call_with(facts, data_status=DataStatus.PARTIAL))
    assert ended["ended_reason"] == "call.in-progress.sip-completed-call"


def test_structured_outputs_stand_in_for_a_missing_summary_and_verdict() -> None:
    outputs = {"call_summary": "They can come on Thursday.", "call_success": True, "other": 1}
    facts = {"structured_outputs": msgspec.json.encode(outputs)}
    record = rendered(call_with(facts))
    assert record["analysis_summary"] == "They can come on Thursday."
    assert record["analysis_success_evaluation"] == "true"
    stated = rendered(call_with(facts | {"analysis_summary": b'"No."', "analysis_success_evaluation": b'"false"'}))
    assert (stated["analysis_summary"], stated["analysis_success_evaluation"]) == ("No.", "false")


@pytest.mark.parametrize("number", ["1e400", "-1e999", "9" * 5000])
def test_an_output_that_is_a_number_beyond_a_double_stands_in_as_its_text(number: str) -> None:
    outputs = f'{{"call_summary":{number},"call_success":{number}}}'.encode()
    record = msgspec.json.decode(
        render_record(call_with({"structured_outputs": outputs}), "summary"), type=dict[str, msgspec.Raw]
    )
    text = f'"{number}"'.encode()
    assert [bytes(record[name]) for name in ("analysis_summary", "analysis_success_evaluation")] == [text, text]


def test_an_output_that_is_blank_or_no_scalar_stands_in_for_nothing() -> None:
    for output in ("null", '""', '" "', '"\\u00a0"', "[]", "[1]", "{}", '{"a":1}'):
        outputs = f'{{"call_summary":{output}}}'.encode()
        assert rendered(call_with({"structured_outputs": outputs}))["analysis_summary"] is None, output


START = b'"2026-09-01T12:00:19.000Z"'


@pytest.mark.parametrize(
    ("facts", "minutes"),
    [
        ({"duration_minutes": b"0.0", "started_at": START, "ended_at": b'"2026-09-01T13:00:19Z"'}, 0.0),
        ({"started_at": START, "ended_at": b'"2026-09-01T12:00:45.260Z"'}, 0.44),
        ({"started_at": START, "ended_at": START}, 0.0),
        ({"started_at": START, "ended_at": b'"2026-09-01T12:00:18Z"'}, None),
        ({"started_at": b'"0001-01-01T00:00:00Z"', "ended_at": b'"9999-12-31T23:59:59Z"'}, 5258964959.98),
        ({"started_at": START}, None),
        ({"ended_at": START}, None),
        ({}, None),
    ],
)
def test_a_duration_not_told_is_the_time_between(facts: dict[str, bytes], minutes: float | None) -> None:
    call = call_with(facts)
    assert rendered(call)["duration_minutes"] == duration_minutes_of(call) == minutes


@pytest.mark.parametrize("call_id", ["call-1", "01a0b1c2-d3e4-7000-8abc-0123456789ab", "A.b_c-D"])
def test_the_id_is_the_uuid5_of_the_calls_name(call_id: str) -> None:
    expected = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:vapi:call:{call_id}")
    assert record_id(call_id.encode()) == str(expected).encode()


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_788_264_045_260, "2026-09-01T12:00:45.260Z"),
        (1_788_264_045_999, "2026-09-01T12:00:45.999Z"),
        (1_788_264_046_000, "2026-09-01T12:00:46.000Z"),
    ],
)
def test_a_time_of_the_store_is_iso_8601_in_utc(epoch_ms: int, text: str) -> None:
    assert iso_of(epoch_ms) == text
