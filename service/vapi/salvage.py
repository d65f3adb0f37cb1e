"""Reads one field of a server message, whatever type it came in, as the JSON fragment of the type that we want.

Every function takes the places where a value may stand, best first, and returns the first that is usable, as JSON
text; empty bytes when there is none. Empty values (null, "", [], {}) are no values; 0 and false are. Scalars are
salvaged: a numeric string as a number, any scalar as text. What cannot be salvaged is counted.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Raw

from service.vapi.messages import ABSENT

MAX_TIMESTAMP: Final = 2**53
"""From here on a double no longer tells one millisecond from the next."""

SECONDS_BELOW: Final = 100_000_000_000
"""A moment given as a number below this is in seconds; as ms it would lie before March 1973."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LONGEST_PLAIN_TIME: Final = len('"2026-09-01T12:00:00.000000Z"')
_PRESIGNED: Final = re.compile(r"(?i)(?:^|&)(?:x-(?:amz|goog)-|(?:signature|sig|se|token|policy|key-pair-id|expires)=)")


_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_time: Final = msgspec.json.Decoder(datetime).decode


class Salvage:
    """Reads fields and counts, in ``dropped``, those of an impossible type."""

    __slots__ = ("dropped",)

    def __init__(self, dropped: int = 0) -> None:
        self.dropped = dropped

    def text(self, *places: Raw) -> bytes:
        for place in places:
            value = bytes(place)
            if value[:1] == b'"':
                if len(value) > 2:
                    return value
            elif value and not is_empty(value):
                if value[0] not in b"[{":
                    return b'"%b"' % value
                self.dropped += 1
        return b""

    def number(self, *places: Raw) -> bytes:
        for place in places:
            if place is ABSENT or is_empty(value := bytes(place)):
                continue
            if value[0] in b"-0123456789":
                return value
            if value[0] == 0x22 and _NUMBER.fullmatch(text := _decode_text(value).strip()):
                number = float(text)
                if abs(number) != float("inf"):
                    return msgspec.json.encode(number)
            self.dropped += 1
        return b""

    def array(self, *places: Raw) -> bytes:
        return self._container(b"[", places)

    def object(self, *places: Raw | bytes) -> bytes:
        return self._container(b"{", places)

    def _container(self, opener: bytes, places: tuple[Raw | bytes, ...]) -> bytes:
        for place in places:
            value = bytes(place)
            if value and not is_empty(value):
                if value[:1] == opener:
                    return value
                self.dropped += 1
        return b""

    def anything(self, *places: Raw) -> bytes:
        for place in places:
            if place is not ABSENT and not is_empty(value := bytes(place)):
                return value
        return b""

    def time(self, *places: Raw) -> bytes:
        """ISO 8601 in UTC, from ISO text in any zone (none means UTC) or from epoch seconds or milliseconds."""
        for place in places:
            value = bytes(place)
            if is_empty(value):
                continue
            if _is_plain_time(value):
                return value
            moment = _moment_of(value)
            if moment is None:
                self.dropped += 1
                continue
            return b'"%b"' % moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        return b""

    def url(self, *places: Raw) -> bytes:
        """A plain address: a presigned one loses its query, which holds the signature and is dead after 30 minutes."""
        for place in places:
            value = self.text(place)
            if b"?" not in value and b"\\" not in value:
                if value:
                    return value
                continue
            try:
                parts = urlsplit(_decode_text(value))
            except ValueError:
                self.dropped += 1
                continue
            if not _PRESIGNED.search(parts.query):
                return value
            return msgspec.json.encode(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))
        return b""


def decoded(fragment: bytes) -> str:
    """The text of a JSON string fragment; empty for the empty fragment."""
    return _decode_text(fragment) if fragment else ""


def is_empty(value: bytes) -> bool:
    """True for null, "", [], {} (white space within or not), and for a field that is not there."""
    first = value[:1]
    if first == b'"':
        return len(value) == 2
    if first in (b"[", b"{"):
        return value[1:2] in b" \t\r\n]}" and not value[1:-1].strip()
    return value in (b"", b"null")


def timestamp_ms(place: Raw) -> int:
    """A message's own timestamp in ms, from a number or ISO text; 0 when absent, unreadable or beyond 2^53.

    It was an ISO string until September 2024 and is a number since.
    """
    value = bytes(place)
    if is_empty(value):
        return 0
    if value[0] == 0x22:
        text = _decode_text(value).strip()
        if _NUMBER.fullmatch(text) is None:
            moment = _moment_of(value)
            return max(0, (moment - _EPOCH) // timedelta(milliseconds=1)) if moment else 0
        value = text.encode()
    try:
        number = float(value)
    except ValueError:
        return 0
    return int(number) if 0 <= number < MAX_TIMESTAMP else 0


def _is_plain_time(value: bytes) -> bool:
    """True for what needs no rewriting: UTC to the microsecond, written as most senders write it."""
    if value[-2:] != b'Z"' or value[11:12] != b"T" or len(value) > _LONGEST_PLAIN_TIME:
        return False
    try:
        _decode_time(value)
    except msgspec.ValidationError:
        return False
    return True


def _moment_of(value: bytes) -> datetime | None:
    text = _decode_text(value).strip() if value[0] == 0x22 else value.decode()
    try:
        if not _NUMBER.fullmatch(text):
            moment = datetime.fromisoformat(text)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        number = float(text)
        return datetime.fromtimestamp(number if number < SECONDS_BELOW else number / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
