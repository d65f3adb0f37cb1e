"""Renders the call record: what a poll returns, put together from the stored JSON fragments without parsing them."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final, Literal

import msgspec
from msgspec.structs import astuple

from service.calls.call_record import CallRecord
from service.calls.ended_reasons import UNRELIABLE_OUTCOMES, ReasonMeaning, meaning_of
from service.calls.facts import FACTS, LARGE_FACTS
from service.calls.status import ENDED, DataStatus, status_at
from service.calls.stored_call import StoredCall
from service.calls.structured_outputs import filled_from_outputs

View = Literal["full", "summary"]

NOT_IN_SUMMARY: Final = ("transcript", "messages")

LARGE_OF_VIEW: Final[dict[str, tuple[str, ...]]] = {
    "full": LARGE_FACTS,
    "summary": tuple(name for name in LARGE_FACTS if name not in NOT_IN_SUMMARY),
}
"""The large facts that each view needs."""

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "full": CallRecord.__struct_fields__,
    "summary": tuple(name for name in CallRecord.__struct_fields__ if name not in NOT_IN_SUMMARY),
}
_TEMPLATES: Final = {
    view: b"{%b}" % b",".join(b'"%b":%%b' % name.encode() for name in names) for view, names in _FIELDS.items()
}

_STATUS: Final = tuple(msgspec.json.encode(status_at(rank)) for rank in range(ENDED + 1))
_DATA_STATUS: Final = tuple(b'"%b"' % status.name.lower().encode() for status in DataStatus)
_ARCHIVED: Final = b',"archived":true}'
_NULL: Final = b"null"
_decode_text: Final = msgspec.json.Decoder(str).decode
_VARIANT: Final = {digit: b"89ab"[int(chr(digit), 16) & 3 :][:1] for digit in b"0123456789abcdef"}
_NAMESPACE: Final = hashlib.sha1(uuid.NAMESPACE_URL.bytes + b"urn:vapi:call:", usedforsecurity=False)


class _WorkedOut(msgspec.Struct):
    """The fields of the record that are no facts, and those that do not show a fact as it is stored, each as JSON text."""

    id: bytes
    call_id: bytes
    status: bytes
    created_at: bytes
    updated_at: bytes
    data_status: bytes
    outcome: bytes
    retry: bytes
    analysis_reliable: bytes
    expires_at: bytes
    version: bytes
    ended_reason: bytes
    duration_minutes: bytes
    transcript: bytes
    metadata: bytes


_NAMES: Final = (*FACTS, *_WorkedOut.__struct_fields__)
"""Of all facts, then of what is worked out. Of two with the same name, the record shows the second."""

_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}

_in_order: Final = {view: itemgetter(*map(_PLACES.__getitem__, names)) for view, names in _FIELDS.items()}
"""Picks the fields of a view, in their order, from the texts of _NAMES."""


def render_record(call: StoredCall, view: View) -> bytes:
    """The record as JSON, assembled from the stored fragments. ``call`` must have the large facts of the view."""
    record: bytes = _TEMPLATES[view] % _in_order[view](_texts_of(call))
    return record[:-1] + _ARCHIVED if call.is_archived else record


def record_fragments(call: StoredCall) -> dict[str, bytes]:
    """Each field of the record, and each fact, as JSON text. ``call`` must have its large facts."""
    return dict(zip(_NAMES, _texts_of(call), strict=True))


def _texts_of(call: StoredCall) -> tuple[bytes, ...]:
    """The JSON texts of _NAMES."""
    meaning = meaning_of_call(call)
    facts = call.facts
    if facts.structured_outputs:
        facts = filled_from_outputs(facts)
    worked_out = _WorkedOut(
        id=b'"%b"' % record_id(call.call_id),
        call_id=b'"%b"' % call.call_id,
        status=_STATUS[call.status],
        created_at=moment_text(call.created_at_ms),
        updated_at=moment_text(call.updated_at_ms),
        data_status=_DATA_STATUS[call.data_status],
        outcome=_quoted(meaning.outcome if meaning else None),
        retry=_quoted(meaning.retry if meaning else None),
        analysis_reliable=_reliable(call, meaning),
        expires_at=moment_text(call.expires_at_ms),
        version=b"%d" % call.version,
        # Version 0.1.0 also stored passing states of running calls.
        ended_reason=_NULL if call.data_status == DataStatus.PENDING else facts.ended_reason or _NULL,
        duration_minutes=facts.duration_minutes or _minutes_between(facts.started_at, facts.ended_at) or _NULL,
        transcript=b'{"text":%b}' % facts.transcript if facts.transcript else _NULL,
        metadata=facts.metadata or b"{}",
    )
    return (*[text or _NULL for text in astuple(facts)], *astuple(worked_out))


def render_pending(call_id: bytes, call: StoredCall | None) -> bytes:
    """The answer to a poll whose call is not final at the deadline. ``call`` is None for an unknown call."""
    if call is None:
        return b'{"call_id":"%b","status":null,"data_status":"pending","updated_at":null}' % call_id
    return b'{"call_id":"%b","status":%b,"data_status":%b,"updated_at":%b}' % (
        call_id,
        _STATUS[call.status],
        _DATA_STATUS[call.data_status],
        moment_text(call.updated_at_ms),
    )


def render_change(call: StoredCall) -> bytes:
    """What streams of all calls' events show of a call. No phone number is in it."""
    meaning = meaning_of_call(call)
    return b'{"call_id":"%b","status":%b,"data_status":%b,"outcome":%b,"updated_at":%b}' % (
        call.call_id,
        _STATUS[call.status],
        _DATA_STATUS[call.data_status],
        _quoted(meaning.outcome if meaning else None),
        moment_text(call.updated_at_ms),
    )


def etag_of(call: StoredCall, view: View) -> bytes:
    """Differs between views, between versions, between archived and live records, and between two lifetimes of one call id.

    A failover may lose a change. The next one then has its version, but another time.
    """
    start = b"a" if call.is_archived else b""
    return b'"%b%x-%x-%x-%b"' % (start, call.created_at_ms, call.updated_at_ms, call.version, view[:1].encode())


def record_id(call_id: bytes) -> bytes:
    """UUIDv5 (RFC 9562, section 5.5) of ``urn:vapi:call:<call_id>`` in the URL namespace."""
    digest = _NAMESPACE.copy()
    digest.update(call_id)
    text = digest.hexdigest().encode()
    return b"%b-%b-5%b-%b%b-%b" % (text[:8], text[8:12], text[13:16], _VARIANT[text[16]], text[17:20], text[20:32])


def meaning_of_call(call: StoredCall) -> ReasonMeaning | None:
    """The meaning of the ended reason; None while the call runs or while no reason is known."""
    reason = call.facts.ended_reason
    if call.data_status == DataStatus.PENDING or not reason:
        return None
    return meaning_of(_decode_text(reason))


def duration_minutes_of(call: StoredCall) -> float | None:
    facts = call.facts
    fragment = facts.duration_minutes or _minutes_between(facts.started_at, facts.ended_at)
    return msgspec.json.decode(fragment, type=float) if fragment else None


def is_past_grace(call: StoredCall, now_ms: int, grace_ms: int) -> bool:
    """True when the record's grace is over and it is not stored as fetch_failed yet."""
    return call.data_status == DataStatus.PARTIAL and now_ms >= call.over_at_ms + grace_ms


def _quoted(word: str | None) -> bytes:
    return _NULL if word is None else b'"%b"' % word.encode()


def _reliable(call: StoredCall, meaning: ReasonMeaning | None) -> bytes:
    """Whether a final record's analysis is about a real conversation; null for other records."""
    if call.data_status < DataStatus.COMPLETE:
        return _NULL
    spoke = call.facts.customer_spoke
    # Versions that did not know this fact stored only the transcript.
    has_spoken = spoke == b"true" if spoke else call.has_transcript
    is_reliable = has_spoken and (meaning is None or meaning.outcome not in UNRELIABLE_OUTCOMES)
    return b"true" if is_reliable else b"false"


def _minutes_between(started_at: bytes, ended_at: bytes) -> bytes:
    """Minutes between two ISO times, as JSON; empty if one is missing or they are in the wrong order."""
    if not (started_at and ended_at):
        return b""
    start, end = (msgspec.json.decode(time, type=datetime) for time in (started_at, ended_at))
    minutes = (end - start).total_seconds() / 60
    return repr(round(minutes, 2)).encode() if minutes >= 0 else b""


def moment_text(epoch_ms: int) -> bytes:
    """The JSON text ``"2026-09-01T12:00:00.000Z"``, with its quotes."""
    second, milliseconds = divmod(epoch_ms, 1000)
    return b'"%b.%03dZ"' % (_iso_second(second), milliseconds)


def iso_of(epoch_ms: int) -> str:
    """``2026-09-01T12:00:00.000Z``"""
    return moment_text(epoch_ms)[1:-1].decode()


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> bytes:
    """The time without milliseconds: thousands of records share it."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
