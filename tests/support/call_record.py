"""What the service makes of a body: the change, the facts as plain values, and the record as a poll returns it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from service.calls.facts import NO_FACTS, Facts
from service.calls.record import View, render_record
from service.calls.status import DataStatus, Ending
from service.calls.stored_call import CallChange, StoredCall
from service.vapi.intake import Intake, change_of
from service.vapi.messages import decode_message

STORED_AT_MS = 1_788_264_050_000
"""2026-09-01T12:00:50Z by the store's clock; a record made here was created and updated then and expires 1800 s on."""


def intake_of(body: dict[str, Any] | bytes) -> Intake:
    return change_of(decode_message(body if isinstance(body, bytes) else msgspec.json.encode(body)))


def change_by(body: dict[str, Any] | bytes) -> CallChange:
    change = intake_of(body).change
    assert change is not None
    return change


def facts_of(body: dict[str, Any] | bytes) -> dict[str, Any]:
    """The facts that a body states, decoded."""
    return {name: json.loads(fragment) for name, fragment in change_by(body).facts.known().items()}


def stored_by(change: CallChange) -> StoredCall:
    """The record that a store would hold after this change and no other."""
    is_complete = change.ending == Ending.FULL_REPORT or (
        change.ending == Ending.PRELIMINARY_REPORT and change.rules_out_analysis
    )
    partial = DataStatus.PARTIAL if change.ending else DataStatus.PENDING
    return StoredCall(
        call_id=change.call_id,
        version=1,
        created_at_ms=STORED_AT_MS,
        updated_at_ms=STORED_AT_MS,
        expires_at_ms=STORED_AT_MS + 1_800_000,
        status=change.status,
        ending=change.ending,
        over_at_ms=STORED_AT_MS if change.ending else 0,
        data_status=DataStatus.COMPLETE if is_complete else partial,
        has_transcript=change.facts.transcript != b"",
        facts=change.facts,
    )


def record_of(body: dict[str, Any] | bytes, view: View = "full") -> dict[str, Any]:
    """The record after this body alone, as a poll returns it."""
    record: dict[str, Any] = json.loads(render_record(stored_by(change_by(body)), view))
    return record


EMPTY = StoredCall(
    call_id=b"call-1",
    version=1,
    created_at_ms=STORED_AT_MS,
    updated_at_ms=STORED_AT_MS,
    expires_at_ms=STORED_AT_MS + 1_800_000,
    status=0,
    ending=0,
    over_at_ms=0,
    data_status=DataStatus.PENDING,
    has_transcript=False,
    facts=NO_FACTS,
)
"""A stored call of which nothing is known."""


def call_with(facts: dict[str, bytes] | None = None, **stored: Any) -> StoredCall:
    """A stored call with these fragments; keyword arguments are its other fields."""
    return msgspec.structs.replace(EMPTY, facts=Facts(**facts or {}), **stored)
