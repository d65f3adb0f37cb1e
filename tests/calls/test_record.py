"""The record as a poll returns it, put together from stored fragments."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest

from service.calls.facts import SMALL_FACTS
from service.calls.record import (
    CallRecord,
    View,
    duration_minutes_of,
    iso_of,
    outcome_of_call,
    record_id,
    render_record,
)
from service.calls.status import DataStatus
from service.store.shapes import StoredCall
from tests.calls.reading import EMPTY, call_with, for_view
from tests.support.for_each import for_each

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
    text = render_record(for_view(call, view), view)
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
        "ended_reason": b'0"value of ended_reason"',
        "duration_minutes": b"0.44",
        "cost": b"1.187e-1",
        "metadata": b'{"a":[1,null]}',
        "transcript": '"Grüß Gott \\ud83d\\ude00"'.encode(),
        "messages": b'[{"role":"bot"}]',
        "analysis_structured_data": b"[false]",
        "structured_outputs": b'{"CSAT":8}',
    }
    expected = texts | {
        "duration_minutes": 0.44,
        "cost": 0.1187,
        "metadata": {"a": [1, None]},
        "transcript": {"text": "Grüß Gott 😀"},
        "messages": [{"role": "bot"}],
        "analysis_structured_data": [False],
        "structured_outputs": {"CSAT": 8},
    }
    assert rendered(call_with(facts)) == BARE | expected


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


@for_each("data_status", DataStatus)
@for_each(
    ("reason", "outcome"), [(b'1"voicemail"', "voicemail"), (b'0"assistant-ended-call"', "completed"), (b"", None)]
)
def test_the_outcome_is_null_while_the_call_runs_or_no_reason_is_known(
    data_status: DataStatus, reason: bytes, outcome: str | None
) -> None:
    call = call_with({"ended_reason": reason}, data_status=data_status)
    expected = None if data_status == DataStatus.PENDING else outcome
    assert rendered(call)["outcome"] == outcome_of_call(call) == expected


@for_each("data_status", DataStatus)
@for_each(
    ("reason", "has_transcript", "reliable"),
    [
        (b'0"assistant-ended-call"', True, True),
        (b'0"assistant-ended-call"', False, False),
        (b'1"voicemail"', True, False),
        (b'1"customer-did-not-answer"', True, False),
        (b'1"customer-busy"', False, False),
        (b"", True, True),
    ],
)
def test_reliability_is_null_until_the_record_is_final(
    data_status: DataStatus, reason: bytes, *, has_transcript: bool, reliable: bool
) -> None:
    call = call_with({"ended_reason": reason}, data_status=data_status, has_transcript=has_transcript)
    assert rendered(call)["analysis_reliable"] is (reliable if data_status.is_final else None)


START = b'"2026-09-01T12:00:19.000Z"'


@for_each(
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
        (0, b"1970-01-01T00:00:00.000Z"),
        (1_788_264_045_260, b"2026-09-01T12:00:45.260Z"),
        (1_788_264_045_999, b"2026-09-01T12:00:45.999Z"),
        (1_788_264_046_000, b"2026-09-01T12:00:46.000Z"),
    ],
)
def test_a_time_of_the_store_is_iso_8601_in_utc(epoch_ms: int, text: bytes) -> None:
    assert iso_of(epoch_ms) == text
