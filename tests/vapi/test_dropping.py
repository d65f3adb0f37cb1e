"""A field of an impossible type is left out and counted; the rest of the message is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.vapi.intake import Intake, change_of
from service.vapi.messages import decode_message
from tests.support.for_each import for_each
from tests.support.vapi_sender import full_report

OPENED = ("analysis", "artifact", "customer", "phoneNumber", "assistant")
"""The fields of a message that we open; the same stand in its call."""


def intake_of(body: dict[str, Any]) -> Intake:
    return change_of(decode_message(msgspec.json.encode(body)))


def report_with(fields: dict[str, object]) -> dict[str, Any]:
    body = full_report()
    body["message"] |= fields
    return body


def fact(intake: Intake, name: str) -> bytes:
    assert intake.change is not None
    return intake.change.facts.known().get(name, b"")


@for_each("odd", [5, 0, 1.5, True, False, "text", "", [], [{"number": "+18645550123"}]])
@for_each("name", OPENED)
def test_an_odd_field_of_a_message_is_dropped_and_counted_once(name: str, odd: object) -> None:
    intake = intake_of(report_with({name: odd}))
    assert intake.dropped == 1
    assert (fact(intake, "duration_minutes"), fact(intake, "cost")) == (b"0.44", b"0.1187")


@for_each("odd", [5, True, "text", [1]])
@for_each("name", [*OPENED, "assistantOverrides"])
def test_an_odd_field_of_a_call_is_dropped_and_counted_once(name: str, odd: object) -> None:
    intake = intake_of(full_report(call={"id": "call-1", "assistantId": "a-1", name: odd}))
    assert intake.dropped == 1
    assert fact(intake, "assistant_id") == b'"a-1"'


@pytest.mark.parametrize("name", [*OPENED, "call"])
def test_null_is_as_good_as_absent_and_is_not_counted(name: str) -> None:
    assert decode_message(msgspec.json.encode(report_with({name: None}))).dropped == 0


@pytest.mark.parametrize("name", [*OPENED, "call"])
def test_null_beside_an_odd_field_is_not_counted(name: str) -> None:
    odd = "customer" if name != "customer" else "artifact"
    assert decode_message(msgspec.json.encode(report_with({name: None, odd: 5}))).dropped == 1


def test_every_odd_field_is_counted() -> None:
    call = {"id": "call-1", **dict.fromkeys(OPENED, 1), "assistantOverrides": [], "metadata": "text"}
    assert intake_of(report_with({**dict.fromkeys(OPENED, "odd"), "call": call})).dropped == 5 + 5 + 1 + 1


def test_odd_values_of_undecoded_fields_are_counted_where_they_are_read() -> None:
    body = full_report(
        transcript=["no", "text"],
        messages="no array",
        cost={"total": 1},
        durationSeconds="half a minute",
        startedAt="this morning",
        endedAt=True,
        analysis={"summary": {"text": "x"}, "successEvaluation": ["true"]},
        artifact={},
    )
    intake = intake_of(body)
    assert intake.dropped == 8
    assert intake.change is not None
    assert fact(intake, "ended_reason") == b'"assistant-ended-call"'


def test_an_odd_call_leaves_a_message_without_a_call() -> None:
    intake = intake_of({"message": {"type": "hang", "call": "call-1"}})
    assert (intake.change, intake.dropped) == (None, 1)


def test_what_stands_beside_an_odd_field_keeps_its_value() -> None:
    metadata = {"big": 2**64, "bigger": 10**30, "tiny": 1e-300, "zero": -0.0, "text": "é ✓ \u2028 😀", "null": None}
    intake = intake_of_text(b'{"message":{"type":"hang","artifact":7,"call":{"id":"c","metadata":%b}}}', metadata)
    assert msgspec.json.decode(fact(intake, "metadata")) == pytest.approx(metadata)
    assert intake.dropped == 1


def intake_of_text(body: bytes, metadata: dict[str, Any]) -> Intake:
    text = ",".join(f'"{key}":{value}' for key, value in metadata.items() if isinstance(value, int))
    rest = msgspec.json.encode({key: value for key, value in metadata.items() if not isinstance(value, int)})
    return change_of(decode_message(body % (b"{" + text.encode() + b"," + rest[1:])))


def test_unknown_fields_are_ignored_and_not_counted() -> None:
    assert intake_of(full_report(novel={"deep": [1, None]}, compliance=5, costs="x", session=[])).dropped == 0
