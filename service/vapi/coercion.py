"""Coerces fields that do not have the type we want.

Empty values (null, [], {}, blank text) count as absent; 0 and false do not. Scalars are coerced: a numeric string to a
number, any scalar to text. Values that cannot be coerced are dropped and counted.
"""

from __future__ import annotations

import re
from functools import cache
from math import isfinite
from typing import Any, Final, TypeVar, get_args
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Raw, Struct

from service.calls.facts import BLANK
from service.vapi.times import NUMBER, is_plain_time, moment_of

ABSENT: Final = Raw()
"""An absent field. Its bytes are empty, which no JSON value is."""

Text = str | None
"""The type of a text field that ``coerce`` handles. Blank text counts as absent."""

_PRINTABLE: Final = [bytes((code,)) for code in range(0x21, 0x7F)]
_SURE_TEXT: Final = frozenset([b'"' + second for second in _PRINTABLE if second not in (b'"', b"\\")])
_SURE_BEGINNINGS: Final = _SURE_TEXT.union(
    [opener + second for opener in (b"[", b"{") for second in _PRINTABLE if second not in (b"]", b"}")]
)
"""The first two bytes of nearly all text, arrays and objects. What begins with them is not empty."""

_PRESIGNED: Final = re.compile(r"(?i)(?:^|&)(?:x-(?:amz|goog)-|(?:signature|sig|se|token|policy|key-pair-id|expires)=)")

_decode_text: Final = msgspec.json.Decoder(str).decode
json_text: Final = msgspec.json.Encoder().encode
"""A value as JSON text."""

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])

_S = TypeVar("_S", bound=Struct)


def coerce(text: bytes, struct: type[Struct]) -> tuple[bytes, int]:
    """The JSON object with its fields coerced to the struct's text and object fields, and how many had to be dropped.

    Raises:
        msgspec.ValidationError: the text is not an object.
    """
    values = _OBJECT.decode(text)
    dropped = 0
    for field in _fields_of(struct):
        value = bytes(values.get(field.name, ABSENT))
        inner = _struct_of(field.type)
        if inner is not None and value[:1] == b"{":
            mended, lost = coerce(value, inner)
        elif not value or field.required:
            continue
        elif inner is not None:
            mended, lost = b"null", int(value != b"null")
        elif field.type == Text:
            mended = _as_text(value) or b"null"
            lost = int(mended == b"null" and not is_empty(value))
        else:
            continue
        values[field.name] = Raw(mended)
        dropped += lost
    return msgspec.json.encode(values), dropped


_fields_of = cache(msgspec.structs.fields)
"""Cached: ``structs.fields`` is slow and leaves reference cycles."""


def _struct_of(hint: Any) -> type[Struct] | None:
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and issubclass(candidate, Struct):
            return candidate
    return None


def _as_text(value: bytes) -> bytes:
    """A scalar as a JSON string; empty when the value is not a scalar."""
    if value[:1] == b'"':
        return value
    return b"" if value[:1] in b"[{" or value == b"null" else b'"%b"' % value


class FieldReader:
    """Reads fields, and counts those of an impossible type in ``dropped``.

    Each method takes the places where a value may be, best first. It returns the first usable one as JSON text, or
    empty bytes when there is none. ``url`` takes and returns plain text.
    """

    __slots__ = ("dropped",)

    def __init__(self, dropped: int = 0) -> None:
        self.dropped = dropped

    def decode(self, text: bytes, decoder: msgspec.json.Decoder[_S]) -> _S:
        """Decode an object as a struct whose fields are Text, Raw or structs."""
        try:
            return decoder.decode(text)
        except msgspec.ValidationError:
            mended, dropped = coerce(text, decoder.type)
            self.dropped += dropped
            return decoder.decode(mended)

    def text(self, *places: Raw | bytes) -> bytes:
        for place in places:
            if place is ABSENT:
                continue
            value = bytes(place)
            if value[:2] in _SURE_TEXT:  # saves two calls for each of some ten texts of a report
                return value
            if is_empty(value):
                continue
            if text := _as_text(value):
                return text
            self.dropped += 1
        return b""

    def number(self, *places: Raw) -> bytes:
        for place in places:
            if place is ABSENT or is_empty(value := bytes(place)):
                continue
            if value[0] in b"-0123456789" and isfinite(float(value)):
                return value
            if value[0] == 0x22 and NUMBER.fullmatch(text := _decode_text(value).strip()):
                number = float(text)
                if isfinite(number):
                    return msgspec.json.encode(number)
            self.dropped += 1
        return b""

    def array(self, *places: Raw) -> bytes:
        return self._container(b"[", places)

    def object(self, *places: Raw | bytes) -> bytes:
        return self._container(b"{", places)

    def _container(self, opener: bytes, places: tuple[Raw | bytes, ...]) -> bytes:
        for place in places:
            if place is ABSENT or is_empty(value := bytes(place)):
                continue
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
        """ISO 8601 in UTC, from ISO text in any zone (UTC if it has none) or from epoch seconds or milliseconds."""
        for place in places:
            value = bytes(place)
            if is_plain_time(value):
                return value
            if is_empty(value):
                continue
            if moment := moment_of(value):
                return b'"%b"' % moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
            self.dropped += 1
        return b""

    def url(self, *places: Text) -> Text:
        """A URL. A presigned one loses its query, which holds the signature and expires after 30 minutes."""
        for text in places:
            if not text or is_blank(text):
                continue
            if "?" not in text:
                return text
            try:
                parts = urlsplit(text)
            except ValueError:
                self.dropped += 1
                continue
            if not _PRESIGNED.search(parts.query):
                return text
            return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        return None


def without_escapes(text: bytes) -> bytes:
    """A JSON string with characters in place of escapes, so that equal texts are equal bytes whoever wrote them."""
    return json_text(_decode_text(text)) if b"\\" in text else text


def is_empty(value: bytes) -> bool:
    """True for null, [] and {} (also with white space inside), blank text, and an absent field."""
    if value[:2] in _SURE_BEGINNINGS:
        return False
    first = value[:1]
    if first == b'"':
        return is_blank(_decode_text(value))
    return not value[1:-1].strip() if first in (b"[", b"{") else value in (b"", b"null")


def is_blank(text: str) -> bool:
    """True for text that is empty or only white space."""
    return BLANK.fullmatch(text) is not None


def first_not_blank(*texts: Text) -> Text:
    """The first text that is not blank."""
    for text in texts:
        if text and not BLANK.fullmatch(text):
            return text
    return None
