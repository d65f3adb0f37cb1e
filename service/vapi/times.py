"""Reads times in VAPI's messages: ISO text or epoch numbers, whose unit differs. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Raw

MAX_TIMESTAMP_MS: Final = 2**53
"""From here on a double cannot represent every millisecond."""

_SURE_DIGITS: Final = len(str(MAX_TIMESTAMP_MS)) - 1
"""Any number of so few digits is below it."""

EPOCH_MS_FROM: Final = 100_000_000_000
"""VAPI does not always say whether a time given as a number is in seconds or ms. From this on it is in ms: in seconds it
would be after the year 5138. Below it, it is in seconds: in ms it would be before March 1973."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_PLAIN_TIME: Final = len('"2026-09-01T12:00:00.000000Z"')

NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
"""A number in a text."""

_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_time: Final = msgspec.json.Decoder(datetime).decode


def timestamp_ms(place: Raw) -> int:
    """A message's own timestamp in ms, from a number or ISO text; 0 when absent, unreadable or beyond 2^53.

    VAPI sent an ISO string until September 2024 and sends a number since.
    """
    value = bytes(place)
    if value.isdigit() and len(value) <= _SURE_DIGITS:
        return int(value)
    if value[:1] == b'"':
        text = _decode_text(value).strip()
        if NUMBER.fullmatch(text) is None:
            moment = moment_of(value)
            return max(0, (moment - _EPOCH) // timedelta(milliseconds=1)) if moment else 0
        value = text.encode()
    try:
        number = float(value)
    except ValueError:
        return 0
    return int(number) if 0 <= number < MAX_TIMESTAMP_MS else 0


def is_plain_time(value: bytes) -> bool:
    """True for a time that needs no conversion: in UTC, at most microseconds, in the usual notation."""
    if value[-2:] != b'Z"' or value[11:12] != b"T" or len(value) > _LONGEST_PLAIN_TIME:
        return False
    try:
        _decode_time(value)
    except msgspec.ValidationError:
        return False
    return True


def moment_of(value: bytes) -> datetime | None:
    """A time in ISO text (UTC if it has no zone) or in epoch seconds or milliseconds; None if it is neither."""
    text = _decode_text(value).strip() if value[:1] == b'"' else value.decode()
    try:
        if not NUMBER.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        number = float(text)
        return datetime.fromtimestamp(number if number < EPOCH_MS_FROM else number / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
