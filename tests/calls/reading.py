"""What the service makes of a body: the change, the facts as plain values, and the record as a poll returns it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from service.calls.facts import LARGE_FACTS, SMALL_FACTS
from service.calls.intake import Intake, change_of
from service.calls.record import LARGE_OF_VIEW, View, render_record
from service.calls.status import DataStatus, Ending
from service.store.shapes import CallChange, StoredCall
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
    """The facts that a body states, decoded; ``ended_reason`` without its mark."""
    change = change_by(body)
    named = zip(SMALL_FACTS + LARGE_FACTS, change.small + change.large, strict=True)
    return {
        name: json.loads(fragment[1:] if name == "ended_reason" else fragment) for name, fragment in named if fragment
    }


def stored_by(change: CallChange) -> StoredCall:
    """The record that a store would hold after this change and no other."""
    has_no_analysis = change.small[1][:1] == b"1"
    is_complete = change.ending == Ending.FULL_REPORT or (
        change.ending == Ending.PRELIMINARY_REPORT and has_no_analysis
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
        has_transcript=bool(change.large[0]),
        small=change.small,
        large=change.large,
    )


def for_view(call: StoredCall, view: View) -> StoredCall:
    """With the large facts that the view asks for, in its order."""
    return msgspec.structs.replace(call, large=tuple(call.large[number - 1] for number in LARGE_OF_VIEW[view]))


def record_of(body: dict[str, Any] | bytes, view: View = "full") -> dict[str, Any]:
    """The record after this body alone, as a poll returns it."""
    record: dict[str, Any] = json.loads(render_record(for_view(stored_by(change_by(body)), view), view))
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
    small=(b"",) * len(SMALL_FACTS),
    large=(b"",) * len(LARGE_FACTS),
)
"""A stored call of which nothing is known."""


def call_with(facts: dict[str, bytes] | None = None, **stored: Any) -> StoredCall:
    """A stored call with these fragments; keyword arguments are its other fields."""
    given = facts or {}
    small = tuple(given.get(name, b"") for name in SMALL_FACTS)
    large = tuple(given.get(name) for name in LARGE_FACTS)
    return msgspec.structs.replace(EMPTY, small=small, large=large, **stored)
