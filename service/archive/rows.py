"""Converts a call to its row and back. A row is written and read as one JSON object, by the names of its columns.

The fields of the call record are columns of the same name, with what the record shows. So a new fact needs a line in
_TYPES unless it is text, and a column in a migration. A value is read back as a fact only if it has a stamp: the others
were worked out from facts when the row was written, and are worked out anew when it is read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Raw

from service.calls.call_record import CallRecord
from service.calls.facts import FACTS, LARGE_FACTS, Facts
from service.calls.record import moment_text, record_fragments
from service.calls.stamped_call import StampedCall
from service.calls.status import DataStatus, rank_of
from service.calls.stored_call import StoredCall

TABLE: Final = "vapi_call_results"

_TYPES: Final = {
    "id": "uuid",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "duration_minutes": "numeric",
    "transcript": "jsonb",
    "messages": "jsonb",
    "analysis_structured_data": "jsonb",
    "structured_outputs": "jsonb",
    "service_request_id": "uuid",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "customer_spoke": "boolean",
    "analysis_reliable": "boolean",
    "cost": "numeric",
    "metadata": "jsonb",
    "version": "bigint",
}
"""Types of the columns that are not text."""

_OF_THE_RECORD: Final = tuple(name for name in CallRecord.__struct_fields__ if name != "expires_at")

RAW: Final = "raw_webhook_payload"
"""Its stamp is kept among those of the facts."""

COLUMNS: Final[dict[str, str]] = {name: _TYPES.get(name, "text") for name in _OF_THE_RECORD} | {
    RAW: "jsonb",
    "fact_stamps": "jsonb",
    "ending": "smallint",
    "over_at": "timestamptz",
    "has_transcript": "boolean",
    "no_analysis": "boolean",
    "deleted_at_vapi": "boolean",
}
"""The type of each column."""

_WITH_NUMBERS: Final = tuple(
    name for name, kind in COLUMNS.items() if kind in ("numeric", "jsonb") and name not in ("transcript", "fact_stamps")
)
"""The columns with numbers that somebody else wrote."""

_TEMPLATE: Final = b"{%b}" % b",".join(b'"%b":%%b' % name.encode() for name in COLUMNS)
_NULL: Final = b"null"

_UUID: Final = re.compile(rb'"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"')
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_MAYBE_NUL: Final = b"\\u0000"
_LONGEST_MANTISSA: Final = 40
_DIGITS_ALIKE: Final = bytes.maketrans(b"0123456789E", b"0000000000e")
_SIGNS: Final = b"+-"
_HUGE: Final = re.compile(rb"[0-9][eE][-+]?[0-9]{3}")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
_STORABLE: Final = re.compile(rb"-?[0-9.]{1,100}(?:[eE][-+]?[0-9]{1,2})?")
"""A number that PostgreSQL stores, and writes out in some 200 digits at most. It writes 1e131071 as 131,072 digits."""

UNREADABLE: Final = (ValueError, LookupError, RecursionError, msgspec.MsgspecError)
"""Raised for a call that cannot be a row, and for a row that cannot be a call because somebody else has changed it."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_STAMPS: Final = msgspec.json.Decoder(dict[str, str])
_moment_of: Final = msgspec.json.Decoder(datetime).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def encode_row(stamped: StampedCall) -> bytes:
    """The row as a JSON object for ``json_to_recordset``."""
    call = stamped.call
    values = record_fragments(call)
    request_id = values["service_request_id"]
    values["service_request_id"] = request_id if _UUID.fullmatch(request_id) else _NULL
    stamps = [b'"%b":"%b"' % (name.encode(), stamp) for name, stamp in stamped.stamps.items() if name in COLUMNS]
    if stamped.raw:
        stamps.append(b'"%b":"%b"' % (RAW.encode(), stamped.raw_stamp))
    values |= {
        RAW: stamped.raw or _NULL,
        "fact_stamps": b"{%b}" % b",".join(stamps),
        "ending": b"%d" % call.ending,
        "over_at": moment_text(call.over_at_ms) if call.over_at_ms else _NULL,
        "has_transcript": _boolean(call.has_transcript),
        "no_analysis": _boolean(stamped.no_analysis),
        "deleted_at_vapi": _boolean(stamped.deleted_at_vapi),
    }
    row = _TEMPLATE % tuple(map(values.__getitem__, COLUMNS))
    if _MAYBE_NUL in row:  # checked first: the regular expression takes ten times as long
        row = _NUL.sub(rb"\1\\ufffd", row)
    is_doubtful = any(_may_hold_huge_number(values[name]) for name in _WITH_NUMBERS)
    return with_storable_numbers(row) if is_doubtful else row


def _may_hold_huge_number(text: bytes) -> bool:
    """Whether a number in the JSON text has an exponent of three digits. A UUID may look like one, but begins with a quote."""
    # For 11 kB the regular expression takes 70 us, this check before it 6.
    if b"0e000" not in text.translate(_DIGITS_ALIKE, _SIGNS):
        return False
    for found in _HUGE.finditer(text):
        before = text[max(0, found.start() - _LONGEST_MANTISSA) : found.start() + 1].rstrip(b"0123456789.")
        if before.removesuffix(b"-")[-1:] in b":,[ \t\r\n":
            return True
    return False


def with_storable_numbers(text: bytes) -> bytes:
    """The JSON text, with a string for each number that PostgreSQL cannot store or would write out in hundreds of digits."""
    return _TOKEN.sub(_storable, text)


def _storable(token: re.Match[bytes]) -> bytes:
    text = token[0]
    return text if text[:1] == b'"' or _STORABLE.fullmatch(text) else b'"%b"' % text


def without_request_id(row: bytes) -> bytes:
    """The row without its request id, for a request that is not in ``service_requests``."""
    return _TEMPLATE % tuple(map((_OBJECT.decode(row) | {"service_request_id": Raw(_NULL)}).__getitem__, COLUMNS))


def request_id_of(stamped: StampedCall) -> str | None:
    """The id of the request that the call was made for, if it can be one."""
    text = stamped.call.facts.service_request_id
    return text[1:-1].decode().lower() if _UUID.fullmatch(text) else None


def selected(large: tuple[str, ...] = LARGE_FACTS, *, with_raw: bool = True) -> str:
    """The list of a SELECT whose rows ``decode_row`` reads, with these of the large facts."""
    left_out = {*LARGE_FACTS} - {*large} | (set() if with_raw else {RAW})
    return ", ".join(_selected(name) for name in COLUMNS if name not in left_out)


def _selected(name: str) -> str:
    if name == "transcript":
        return "transcript -> 'text' AS transcript"
    if COLUMNS[name] == "timestamptz":
        return f"""to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {name}"""
    return name


def decode_row(text: str, retention_ms: int) -> StampedCall:
    """The call of a row that was selected with ``selected`` and made a JSON object."""
    row = {name: bytes(value) for name, value in _OBJECT.decode(text).items()}
    stamps = {name: stamp.encode() for name, stamp in _STAMPS.decode(row["fact_stamps"]).items()}
    raw_stamp = stamps.pop(RAW, b"")
    for name in ("started_at", "ended_at"):
        row[name] = row[name].replace(b'000Z"', b'Z"')  # whole milliseconds, as Redis has them
    facts = {name: row[name] for name in FACTS if name in stamps and row.get(name, _NULL) != _NULL}
    created_at_ms = _ms_of(row["created_at"])
    call = StoredCall(
        call_id=_decode_text(row["call_id"]).encode(),
        version=int(row["version"]),
        created_at_ms=created_at_ms,
        updated_at_ms=_ms_of(row["updated_at"]),
        expires_at_ms=created_at_ms + retention_ms,
        status=rank_of(msgspec.json.decode(row["status"])),
        ending=int(row["ending"]),
        over_at_ms=_ms_of(row["over_at"]),
        data_status=DataStatus[_decode_text(row["data_status"]).upper()],
        has_transcript=row["has_transcript"] == b"true",
        facts=Facts(**facts),
        is_archived=True,
    )
    raw = row.get(RAW, _NULL)
    return StampedCall(
        call=call,
        stamps={name: stamps[name] for name in facts},
        no_analysis=row["no_analysis"] == b"true",
        deleted_at_vapi=row["deleted_at_vapi"] == b"true",
        raw=raw if raw != _NULL else b"",
        raw_stamp=raw_stamp if raw != _NULL else b"",
    )


def _ms_of(moment: bytes) -> int:
    """Epoch milliseconds; 0 for null."""
    return 0 if moment == _NULL else (_moment_of(moment) - _EPOCH) // timedelta(milliseconds=1)


def _boolean(value: bool) -> bytes:  # noqa: FBT001 - that is what it converts
    return b"true" if value else b"false"
