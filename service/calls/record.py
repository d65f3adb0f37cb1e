"""Renders the call record: what a poll returns, put together from the stored JSON fragments without parsing them."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Final, Literal

import msgspec
from msgspec import Raw

from service.calls.call_answers import SUCCESS_OUTPUT, SUMMARY_OUTPUT, StructuredCallData
from service.calls.call_record import CallRecord
from service.calls.ended_reasons import UNRELIABLE_OUTCOMES, ReasonMeaning, meaning_of
from service.calls.facts import BLANK, LARGE_FACTS, SMALL_FACTS
from service.calls.status import DataStatus, status_at
from service.calls.stored_call import StoredCall

View = Literal["full", "summary"]

NOT_IN_SUMMARY: Final = ("transcript", "messages")

LARGE_OF_VIEW: Final[dict[str, tuple[str, ...]]] = {
    "full": LARGE_FACTS,
    "summary": tuple(name for name in LARGE_FACTS if name not in NOT_IN_SUMMARY),
}
"""The large facts that each view needs."""

STRUCTURED_FIELDS: Final = frozenset(StructuredCallData.__struct_fields__)
ENOUGH_STRUCTURED_FIELDS: Final = len(STRUCTURED_FIELDS) // 2
"""VAPI's model leaves keys out. An output with half of our fields is ours; one that only shares "notes" is not."""


_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "full": CallRecord.__struct_fields__,
    "summary": tuple(name for name in CallRecord.__struct_fields__ if name not in NOT_IN_SUMMARY),
}
_TEMPLATES: Final = {
    view: b"{%b}" % b",".join(b'"%b":%%b' % name.encode() for name in names) for view, names in _FIELDS.items()
}
_of_analysis: Final = itemgetter("analysis_summary", "analysis_success_evaluation", "analysis_structured_data")
_in_order: Final = {view: itemgetter(*names) for view, names in _FIELDS.items()}

_STATUS: Final = tuple(msgspec.json.encode(status_at(rank)) for rank in range(7))
_DATA_STATUS: Final = tuple(b'"%b"' % status.name.lower().encode() for status in DataStatus)
_ARCHIVED: Final = b',"archived":true}'
_NULL: Final = b"null"
_NO_FACTS: Final = dict.fromkeys((*CallRecord.__struct_fields__, *SMALL_FACTS, *LARGE_FACTS), _NULL)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_decode_text: Final = msgspec.json.Decoder(str).decode
_VARIANT: Final = {digit: b"89ab"[int(chr(digit), 16) & 3 :][:1] for digit in b"0123456789abcdef"}
_NAMESPACE: Final = hashlib.sha1(uuid.NAMESPACE_URL.bytes + b"urn:vapi:call:", usedforsecurity=False)


def render_record(call: StoredCall, view: View) -> bytes:
    """The record as JSON, assembled from the stored fragments. ``call`` must have the large facts of the view."""
    record: bytes = _TEMPLATES[view] % _in_order[view](record_fragments(call))
    return record[:-1] + _ARCHIVED if call.is_archived else record


def record_fragments(call: StoredCall) -> dict[str, bytes]:
    """Each field of the record as JSON text. Of the large facts only those that ``call`` has are there."""
    meaning = meaning_of_call(call)
    values = {
        **_NO_FACTS,
        **call.facts,
        "id": b'"%b"' % record_id(call.call_id),
        "call_id": b'"%b"' % call.call_id,
        "status": _STATUS[call.status],
        "created_at": b'"%b"' % iso_of(call.created_at_ms),
        "updated_at": b'"%b"' % iso_of(call.updated_at_ms),
        "expires_at": b'"%b"' % iso_of(call.expires_at_ms),
        "version": b"%d" % call.version,
        "data_status": _DATA_STATUS[call.data_status],
        "outcome": _quoted(meaning.outcome if meaning else None),
        "retry": _quoted(meaning.retry if meaning else None),
        "analysis_reliable": _reliable(call, meaning),
    }
    if call.data_status == DataStatus.PENDING:
        values["ended_reason"] = _NULL  # the version before stored passing states of running calls
    if values["duration_minutes"] is _NULL:
        values["duration_minutes"] = _minutes_between(values["started_at"], values["ended_at"])
    if values["metadata"] is _NULL:
        values["metadata"] = b"{}"
    if values["structured_outputs"] is not _NULL:
        _fill_from_outputs(values)
    if values["transcript"] is not _NULL:
        values["transcript"] = b'{"text":%b}' % values["transcript"]
    return values


def _fill_from_outputs(values: dict[str, bytes]) -> None:
    """Take from the structured outputs what the analysis lacks."""
    if _NULL not in _of_analysis(values):
        return
    outputs = _OBJECT.decode(values["structured_outputs"])
    for name, output in (("analysis_summary", SUMMARY_OUTPUT), ("analysis_success_evaluation", SUCCESS_OUTPUT)):
        if values[name] is _NULL and output in outputs:
            values[name] = _text_of(outputs[output]) or _NULL
    if values["analysis_structured_data"] is _NULL:
        values["analysis_structured_data"] = _find_structured_data(outputs) or _NULL


def _text_of(output: Raw) -> bytes:
    """A scalar as a JSON string; empty if it is blank or not a scalar."""
    text = bytes(output)  # a number is not decoded: it may be too large for any type
    if text[:1] == b'"':
        return b"" if BLANK.fullmatch(_decode_text(text)) else text
    return b"" if text[:1] in b"[{" or text == b"null" else b'"%b"' % text


def _find_structured_data(outputs: dict[str, Raw]) -> bytes:
    """The output with the most fields of our own schema; empty if none has enough of them."""
    best, most = b"", ENOUGH_STRUCTURED_FIELDS - 1
    for result in outputs.values():
        text = bytes(result)
        if text[:1] == b"{" and (shared := len(STRUCTURED_FIELDS & _OBJECT.decode(text).keys())) > most:
            best, most = text, shared
    return best


def render_pending(call_id: bytes, call: StoredCall | None) -> bytes:
    """The answer to a poll whose call is not final at the deadline. ``call`` is None for an unknown call."""
    if call is None:
        return b'{"call_id":"%b","status":null,"data_status":"pending","updated_at":null}' % call_id
    return b'{"call_id":"%b","status":%b,"data_status":%b,"updated_at":"%b"}' % (
        call_id,
        _STATUS[call.status],
        _DATA_STATUS[call.data_status],
        iso_of(call.updated_at_ms),
    )


def render_change(call: StoredCall) -> bytes:
    """What streams of all calls' events show of a call. No phone number is in it."""
    meaning = meaning_of_call(call)
    return b'{"call_id":"%b","status":%b,"data_status":%b,"outcome":%b,"updated_at":"%b"}' % (
        call.call_id,
        _STATUS[call.status],
        _DATA_STATUS[call.data_status],
        _quoted(meaning.outcome if meaning else None),
        iso_of(call.updated_at_ms),
    )


def etag_of(call: StoredCall, view: View) -> bytes:
    """Differs between views, versions, archived records and others, and a record and a later one of the same call.

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
    reason = call.facts.get("ended_reason")
    if call.data_status == DataStatus.PENDING or not reason:
        return None
    return meaning_of(_decode_text(reason))


def duration_minutes_of(call: StoredCall) -> float | None:
    facts = call.facts
    started_at, ended_at = facts.get("started_at", _NULL), facts.get("ended_at", _NULL)
    fragment = facts.get("duration_minutes") or _minutes_between(started_at, ended_at)
    minutes: float | None = msgspec.json.decode(fragment)
    return minutes


def is_past_grace(call: StoredCall, now_ms: int, grace_ms: int) -> bool:
    """True when the record's grace is over and it is not stored as fetch_failed yet."""
    return call.data_status == DataStatus.PARTIAL and now_ms >= call.over_at_ms + grace_ms


def _quoted(word: str | None) -> bytes:
    return _NULL if word is None else b'"%b"' % word.encode()


def _reliable(call: StoredCall, meaning: ReasonMeaning | None) -> bytes:
    """Whether a final record's analysis is about a real conversation; null for other records."""
    if call.data_status < DataStatus.COMPLETE:
        return _NULL
    spoke = call.facts.get("customer_spoke")
    # Versions that did not know this fact stored only the transcript.
    has_spoken = spoke == b"true" if spoke else call.has_transcript
    is_reliable = has_spoken and (meaning is None or meaning.outcome not in UNRELIABLE_OUTCOMES)
    return b"true" if is_reliable else b"false"


def _minutes_between(started_at: bytes, ended_at: bytes) -> bytes:
    """Minutes between two ISO times, as JSON; null if one is missing or they are in the wrong order."""
    if _NULL in (started_at, ended_at):
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
    """The time without milliseconds: thousands of records share it."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
