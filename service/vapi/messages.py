"""VAPI's server messages as tolerant structs: only the fields we read, each of any type.

What VAPI sends is an envelope ``{"message": {...}}``; https://docs.vapi.ai/server-url/events lists the types. Its
OpenAPI document requires almost nothing of them and real traffic departs even from that, so a field's value stays
undecoded (``Raw``) until somebody asks for it; only nested objects are opened here.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, Final, get_args

import msgspec
from msgspec import Raw, Struct

from service.errors import Detail, InvalidMessageError

MAX_DEPTH: Final = 900
"""Levels of nesting that we take. msgspec gives up between 990 and 5,000, depending on the Python beneath it."""

ABSENT: Final = Raw()
"""A field that is not there; as bytes it is empty, which no JSON value is."""


class Customer(Struct):
    number: Raw = ABSENT
    sipUri: Raw = ABSENT  # noqa: N815 - VAPI's spelling, here and below


class PhoneNumber(Struct):
    id: Raw = ABSENT


class Assistant(Struct):
    id: Raw = ABSENT
    metadata: Raw = ABSENT
    variableValues: Raw = ABSENT  # noqa: N815


class Analysis(Struct):
    summary: Raw = ABSENT
    structuredData: Raw = ABSENT  # noqa: N815
    structuredDataMulti: Raw = ABSENT  # noqa: N815
    successEvaluation: Raw = ABSENT  # noqa: N815


class Artifact(Struct):
    transcript: Raw = ABSENT
    messages: Raw = ABSENT
    recordingUrl: Raw = ABSENT  # noqa: N815
    stereoRecordingUrl: Raw = ABSENT  # noqa: N815
    recording: Raw = ABSENT
    structuredOutputs: Raw = ABSENT  # noqa: N815
    variableValues: Raw = ABSENT  # noqa: N815
    variables: Raw = ABSENT


class Results(Struct):
    """What a report carries at ``message.*`` and a hand-made one inside ``message.call.*``."""

    status: Raw = ABSENT
    endedReason: Raw = ABSENT  # noqa: N815
    startedAt: Raw = ABSENT  # noqa: N815
    endedAt: Raw = ABSENT  # noqa: N815
    durationSeconds: Raw = ABSENT  # noqa: N815
    durationMs: Raw = ABSENT  # noqa: N815
    durationMinutes: Raw = ABSENT  # noqa: N815
    cost: Raw = ABSENT
    summary: Raw = ABSENT
    transcript: Raw = ABSENT
    messages: Raw = ABSENT
    recordingUrl: Raw = ABSENT  # noqa: N815
    stereoRecordingUrl: Raw = ABSENT  # noqa: N815
    analysis: Analysis | None = None
    artifact: Artifact | None = None
    customer: Customer | None = None
    phoneNumber: PhoneNumber | None = None  # noqa: N815
    assistant: Assistant | None = None


class Call(Results):
    """``message.call``: a snapshot from when the call was created, never refreshed by VAPI."""

    id: Raw = ABSENT
    assistantId: Raw = ABSENT  # noqa: N815
    phoneNumberId: Raw = ABSENT  # noqa: N815
    metadata: Raw = ABSENT
    assistantOverrides: Assistant | None = None  # noqa: N815


class ServerMessage(Results, kw_only=True):
    """``message``; ``type`` is the only field that must be there."""

    type: str
    timestamp: Raw = ABSENT
    call: Call | None = None
    toolCallList: Raw = ABSENT  # noqa: N815
    toolCalls: Raw = ABSENT  # noqa: N815


class _Envelope(Struct):
    message: ServerMessage


_DECODER: Final = msgspec.json.Decoder(_Envelope)


class Received(Struct):
    """A decoded message, and how many fields of it were dropped for having an impossible type."""

    message: ServerMessage
    dropped: int = 0


def decode_message(body: bytes) -> Received:
    """The server message in a webhook's body.

    A lone surrogate escape (VAPI cuts texts by length, through the middle of an emoji) becomes U+FFFD.

    Raises:
        InvalidMessageError: not UTF-8, not JSON (``NaN``, deeper than 900 levels, a number beyond a double), not an
            object, no ``message`` object, or no string ``message.type``.
    """
    _check_text(body)
    try:
        return Received(_DECODER.decode(body).message)
    except msgspec.ValidationError:
        return _decode_odd(body)
    except RecursionError:
        raise _not_json("nested too deeply") from None
    except msgspec.DecodeError as exc:
        mended = replace_lone_surrogates(body)
        if mended == body:
            raise _not_json(str(exc)) from None
        return decode_message(mended)


def _decode_odd(body: bytes) -> Received:
    """The slow way, for a message with a value of an impossible type: drop those values, keep the rest."""
    try:
        envelope = msgspec.json.decode(body)
        dropped = _drop_odd(envelope, _Envelope)
        return Received(_DECODER.decode(msgspec.json.encode(envelope)).message, dropped)
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at ")
        raise InvalidMessageError(
            "Invalid webhook payload",
            details=(Detail(path.strip("`") or "$", reason.replace("`", "")),),
        ) from None
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _not_json(str(exc)) from None


def _drop_odd(value: Any, struct: type[Struct]) -> int:
    """Remove from a decoded object, in place, every value that should be an object of ours and is none."""
    if not isinstance(value, dict):
        return 0
    dropped = 0
    for field in msgspec.structs.fields(struct):
        inner = _struct_of(field.type)
        if inner is None or field.name not in value:
            continue
        if isinstance(value[field.name], dict):
            dropped += _drop_odd(value[field.name], inner)
        elif not field.required and value.pop(field.name) is not None:
            dropped += 1
    return dropped


def _struct_of(hint: Any) -> type[Struct] | None:
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and issubclass(candidate, Struct):
            return candidate
    return None


def _not_json(reason: str) -> InvalidMessageError:
    return InvalidMessageError("The body is not valid JSON", details=(Detail("$", reason),))


# What msgspec does not see in the parts that it skips: bad UTF-8, numbers beyond a double, depth.

_SHAPE: Final = bytes(
    0x30 if chr(c) in "0123456789+" else 0x65 if chr(c) in "eE" else 0x5B if chr(c) in "[{" else 0x20
    for c in range(256)
)
"""Maps a body to its shape: digits and plus to 0, e and E to e, openers to [, all else to a space."""

_HUGE_EXPONENT: Final = b"0e000"
_HUGE_INTEGER: Final = b"0" * 309
_NUMBER: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?\d[\d.]*(?:[eE][-+]?\d+)?)')
_WITHIN_NUMBER: Final = b"0123456789.-"
_BEFORE_NUMBER: Final = b":,[ \t\r\n"
_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(c for c in range(256) if chr(c) not in "[]{}")
_STEP: Final = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}


def _check_text(body: bytes) -> None:
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as exc:
            raise InvalidMessageError(
                "The body is not valid UTF-8", details=(Detail("$", f"invalid byte at {exc.start}"),)
            ) from None
    shape = body.translate(_SHAPE)
    if shape.count(b"[") > MAX_DEPTH and _depth_of(body) > MAX_DEPTH:
        raise _not_json("nested too deeply")
    if _may_hold_huge_number(body, shape) and _has_huge_number(body):
        raise _not_json("number out of range")


def _depth_of(body: bytes) -> int:
    """Levels of nesting of a body with many brackets, those inside strings left out."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(None, _NEITHER_BRACKET_NOR_QUOTE)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _may_hold_huge_number(body: bytes, shape: bytes) -> bool:
    """A cheap first look, since every other UUID holds a digit, an e and three digits: does it begin like a number?"""
    found = shape.find(_HUGE_EXPONENT)
    while found != -1:
        start = found
        while start and body[start - 1] in _WITHIN_NUMBER:
            start -= 1
        if start and body[start - 1] in _BEFORE_NUMBER:
            return True
        found = shape.find(_HUGE_EXPONENT, found + 1)
    return _HUGE_INTEGER in shape


def _has_huge_number(body: bytes) -> bool:
    return any(float(number) in (float("inf"), float("-inf")) for number in _NUMBER.findall(body) if number)


_SURROGATE_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: stays
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"  # half a pair: replaced
    rb"|\\."  # any other escape, so that an escaped backslash before a u is not taken for one
)


def replace_lone_surrogates(body: bytes) -> bytes:
    r"""The same JSON text with every unpaired UTF-16 surrogate escape (``\ud83d``) replaced by ``\ufffd``."""
    return _SURROGATE_ESCAPE.sub(lambda found: rb"\ufffd" if len(found[0]) == 6 else found[0], body)
