"""The call record: what a poll returns, put together from the stored JSON fragments without parsing them."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from service.calls.status import DataStatus, is_analysis_reliable, outcome_of, status_at
from service.store.shapes import StoredCall

View = Literal["full", "summary"]

LARGE_OF_VIEW: Final[dict[str, tuple[int, ...]]] = {"full": (3, 4, 1, 2), "summary": (3, 4)}
"""Which large facts a view needs, by their number from 1."""


class Transcript(msgspec.Struct):
    text: str


class CallRecord(msgspec.Struct, kw_only=True):
    """The result of one call, as a poll returns it under ``data``. Times are ISO 8601 in UTC."""

    id: str
    """UUIDv5 of ``urn:vapi:call:<call_id>`` in the URL namespace: the same on every replica."""
    call_id: str
    assistant_id: str | None
    phone_number_id: str | None
    customer_phone: str | None
    """E.164 where possible."""
    status: str | None
    """scheduled, queued, ringing, in-progress, forwarding, ended; only ever moves forward."""
    ended_reason: str | None
    started_at: str | None
    ended_at: str | None
    duration_minutes: float | None
    transcript: Transcript | None = None
    """Not in the summary view."""
    messages: list[Any] | None = None
    """As VAPI sent them; not in the summary view."""
    recording_url: str | None
    analysis_summary: str | None
    analysis_structured_data: Any
    analysis_success_evaluation: str | None
    structured_outputs: dict[str, Any] | None
    provider_name: str | None
    provider_phone: str | None
    service_type: str | None
    location: str | None
    user_criteria: str | None
    urgency: str | None
    service_request_id: str | None
    created_at: str
    updated_at: str
    data_status: Literal["pending", "partial", "complete", "fetch_failed"]
    """The last two are final."""
    outcome: Literal["completed", "voicemail", "busy", "no_answer", "cancelled", "failed"] | None
    analysis_reliable: bool | None
    cost: float | None
    """USD."""
    metadata: dict[str, Any]
    expires_at: str
    version: int
    """Grows with every change of a fact or of ``data_status``."""


_HEAD: Final = (
    b'{"id":"%b","call_id":"%b","assistant_id":%b,"phone_number_id":%b,"customer_phone":%b,"status":%b,'
    b'"ended_reason":%b,"started_at":%b,"ended_at":%b,"duration_minutes":%b,'
)
_HEAVY: Final = b'"transcript":%b,"messages":%b,'
_TAIL: Final = (
    b'"recording_url":%b,"analysis_summary":%b,"analysis_structured_data":%b,"analysis_success_evaluation":%b,'
    b'"structured_outputs":%b,"provider_name":%b,"provider_phone":%b,"service_type":%b,"location":%b,'
    b'"user_criteria":%b,"urgency":%b,"service_request_id":%b,"created_at":"%b","updated_at":"%b",'
    b'"data_status":"%b","outcome":%b,"analysis_reliable":%b,"cost":%b,"metadata":%b,"expires_at":"%b","version":%d}'
)
_SUMMARY: Final = _HEAD + _TAIL
_FULL: Final = _HEAD + _HEAVY + _TAIL
_STATUS: Final = tuple(msgspec.json.encode(status_at(rank)) for rank in range(7))
_DATA_STATUS: Final = tuple(status.name.lower().encode() for status in DataStatus)
_NULL: Final = b"null"
_decode_text: Final = msgspec.json.Decoder(str).decode
_VARIANT: Final = {digit: b"89ab"[int(chr(digit), 16) & 3 :][:1] for digit in b"0123456789abcdef"}
_NAMESPACE: Final = hashlib.sha1(uuid.NAMESPACE_URL.bytes + b"urn:vapi:call:", usedforsecurity=False)


def render_record(call: StoredCall, view: View) -> bytes:
    """The record as JSON. ``call`` must hold the large facts of the view, in the order of ``LARGE_OF_VIEW``."""
    (phone, ending, assistant_id, phone_number_id, started_at, ended_at, duration, recording_url, summary, evaluation,
     provider_name, provider_phone, service_type, location, user_criteria, urgency, service_request_id, cost,
     metadata) = [fact or _NULL for fact in call.small]  # fmt: skip
    structured_data, outputs, *heavy = [fact or _NULL for fact in call.large]
    outcome = outcome_of_call(call)
    if heavy and heavy[0] is not _NULL:
        heavy[0] = b'{"text":%b}' % heavy[0]
    return (_FULL if view == "full" else _SUMMARY) % (
        record_id(call.call_id), call.call_id, assistant_id, phone_number_id, phone, _STATUS[call.status],
        ending[1:] if ending is not _NULL else _NULL, started_at, ended_at,
        duration if duration is not _NULL else _minutes_between(started_at, ended_at), *heavy,
        recording_url, summary, structured_data, evaluation, outputs, provider_name, provider_phone, service_type,
        location, user_criteria, urgency, service_request_id, iso_of(call.created_at_ms), iso_of(call.updated_at_ms),
        _DATA_STATUS[call.data_status], b'"%b"' % outcome.encode() if outcome else _NULL, _reliable(call, outcome),
        cost, metadata if metadata is not _NULL else b"{}", iso_of(call.expires_at_ms), call.version,
    )  # fmt: skip


def render_pending(call_id: bytes, call: StoredCall | None) -> bytes:
    """What a poll gets whose call is not final at the deadline; None for a call that nobody has heard of yet."""
    if call is None:
        return b'{"call_id":"%b","status":null,"data_status":"pending","updated_at":null}' % call_id
    return b'{"call_id":"%b","status":%b,"data_status":"%b","updated_at":"%b"}' % (
        call_id,
        _STATUS[call.status],
        _DATA_STATUS[call.data_status],
        iso_of(call.updated_at_ms),
    )


def etag_of(call: StoredCall, view: View) -> bytes:
    """Differs between views, between versions, and between a record and its successor after expiry."""
    return b'"%x-%x-%b"' % (call.created_at_ms, call.version, view[:1].encode())


def record_id(call_id: bytes) -> bytes:
    """UUIDv5 (RFC 9562, section 5.5) of ``urn:vapi:call:<call_id>`` in the URL namespace."""
    digest = _NAMESPACE.copy()
    digest.update(call_id)
    text = digest.hexdigest().encode()
    return b"%b-%b-5%b-%b%b-%b" % (text[:8], text[8:12], text[13:16], _VARIANT[text[16]], text[17:20], text[20:32])


def outcome_of_call(call: StoredCall) -> str | None:
    """None while the call runs or while no reason is known."""
    if call.data_status == DataStatus.PENDING or not call.small[1]:
        return None
    return outcome_of(_decode_text(call.small[1][1:]))


def duration_minutes_of(call: StoredCall) -> float | None:
    started_at, ended_at, duration = call.small[4:7]
    minutes: float | None = msgspec.json.decode(duration or _minutes_between(started_at, ended_at))
    return minutes


def is_past_grace(call: StoredCall, now_ms: int, grace_ms: int) -> bool:
    """True when time alone has made the record fetch_failed and nobody has written that down yet."""
    return call.data_status == DataStatus.PARTIAL and now_ms >= call.over_at_ms + grace_ms


def _reliable(call: StoredCall, outcome: str | None) -> bytes:
    if call.data_status < DataStatus.COMPLETE:
        return _NULL
    return b"true" if is_analysis_reliable(outcome, has_transcript=call.has_transcript) else b"false"


def _minutes_between(started_at: bytes, ended_at: bytes) -> bytes:
    """Minutes from one ISO time to the other, as JSON; null unless both are there and in order."""
    if started_at in (b"", _NULL) or ended_at in (b"", _NULL):
        return _NULL
    start, end = (msgspec.json.decode(time, type=datetime) for time in (started_at, ended_at))
    minutes = (end - start).total_seconds() / 60
    return repr(round(minutes, 2)).encode() if minutes >= 0 else _NULL


def iso_of(epoch_ms: int) -> bytes:
    """``2026-09-01T12:00:00.000Z``"""
    second, milliseconds = divmod(epoch_ms, 1000)
    return b"%b.%03dZ" % (_iso_second(second), milliseconds)


@lru_cache(maxsize=4096)
def _iso_second(second: int) -> bytes:
    """Up to the second, which thousands of records share."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
