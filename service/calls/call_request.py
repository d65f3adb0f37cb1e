"""A call request: whom to phone, for which service, with which criteria. Checked before anybody is dialled."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from service.calls.phone import E164_PATTERN
from service.errors import Detail, InvalidRequestError

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Line = Annotated[str, Meta(min_length=1, max_length=500)]
Paragraph = Annotated[str, Meta(min_length=1, max_length=4000)]
"""VAPI repeats the whole prompt about four times in every report, so each text is bounded."""
Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
Instructions = Annotated[str, Meta(min_length=1, max_length=10_000)]
E164 = Annotated[str, Meta(pattern=rf"^{E164_PATTERN}\Z")]
Urgency = Literal["immediate", "within_24_hours", "within_2_days", "flexible"]


class CallRequest(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """One provider to be phoned. Texts are the client's free text: never trusted, only ever shown as values."""

    provider_name: Name
    provider_phone: E164
    service_needed: Line
    user_criteria: Paragraph
    """Criteria that one single person must meet; a list or a sentence, as the client wrote it."""
    location: Line
    urgency: Urgency
    problem_description: Paragraph | None = None
    client_name: Name | None = None
    client_address: Line | None = None
    service_request_id: Identifier | None = None
    provider_id: Identifier | None = None
    custom_prompt: Instructions | None = None
    """The operator's own instructions for this call, added to the prompt. They outrank only its questions."""


_FIELDS: Final = {field.encode_name: field for field in msgspec.inspect.type_info(CallRequest).fields}  # type: ignore[attr-defined]

_EXACT: Final = frozenset({"providerPhone", "urgency"})
"""Not free text: these must match exactly, and are not stripped."""


def decode_call_request(value: Any) -> CallRequest:
    """The call request in a decoded JSON value. Free texts are stripped, unknown fields are ignored.

    A text without a visible character counts as empty. An optional field that is null or empty counts as absent.

    Raises:
        InvalidRequestError: with one detail for each field that is wrong or missing.
    """
    if not isinstance(value, dict):
        raise InvalidRequestError("Invalid call request", details=(Detail("$", "must be an object"),))
    given = {name: _stripped(name, value[name]) for name in _FIELDS if name in value}
    given = {name: text for name, text in given.items() if _FIELDS[name].required or text not in (None, "")}
    if details := tuple(_complaints(given)):
        raise InvalidRequestError("Invalid call request", details=details)
    return msgspec.convert(given, CallRequest)


def _stripped(name: str, value: Any) -> Any:
    if not isinstance(value, str) or name in _EXACT:
        return value
    return value.strip() if any(map(_is_visible, value)) else ""


def _is_visible(character: str) -> bool:
    """False for blanks, controls and characters that the prompt leaves out: nobody can pronounce such a name."""
    return unicodedata.category(character)[0] not in "CZ"


def _complaints(given: dict[str, Any]) -> Iterator[Detail]:
    """In the order of the fields, so that the same mistakes always give the same answer."""
    for name, field in _FIELDS.items():
        if name not in given:
            if field.required:
                yield Detail(f"$.{name}", "is required")
        elif complaint := _complaint(field.type, given[name]):
            yield Detail(f"$.{name}", complaint)


def _complaint(wanted: msgspec.inspect.Type, value: Any) -> str | None:
    """What is wrong with a field's value, without quoting it; None when nothing is."""
    if isinstance(wanted, msgspec.inspect.UnionType):
        return _complaint(next(kind for kind in wanted.types if isinstance(kind, msgspec.inspect.StrType)), value)
    if isinstance(wanted, msgspec.inspect.LiteralType):
        return None if value in get_args(Urgency) else f"must be one of {', '.join(get_args(Urgency))}"
    return _complaint_about_text(wanted, value)


def _complaint_about_text(wanted: Any, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    if wanted.pattern is not None and not re.search(wanted.pattern, value):
        return "must be a phone number in E.164: +, country code and number, digits only"
    if not value and wanted.min_length:
        return "must not be empty"
    if wanted.max_length is not None and len(value) > wanted.max_length:
        return f"must not be longer than {wanted.max_length} characters"
    return None
