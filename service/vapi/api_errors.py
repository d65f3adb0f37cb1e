"""Converts VAPI's refusals to the errors that our callers get. Pure.

Its bodies have NestJS's form: ``{"message": "..." or ["...", ...], "error": "Bad Request", "statusCode": 400}``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import structlog

from service.config import Secret
from service.errors import (
    InvalidRequestError,
    PaymentRequiredError,
    ServiceError,
    TooManyRequestsError,
    UpstreamError,
)
from service.vapi.json_checks import replace_lone_surrogates

if TYPE_CHECKING:
    from service.outbound import HttpAnswer

log = structlog.get_logger(__name__)

MAX_MESSAGE_LENGTH: Final = 500

MAX_RETRY_AFTER_S: Final = 86_400

_CONCURRENCY: Final = re.compile(r"\bconcurren", re.IGNORECASE)
"""VAPI answers 400, not 429, when all lines are in use. We only know that its message mentions concurrency."""

_NOT_SHOWN: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_Value = TypeVar("_Value")


class _Refusal(msgspec.Struct):
    message: str | list[str] = ""


class _Limits(msgspec.Struct, rename="camel"):
    concurrency_blocked: bool = False


class _Blocked(msgspec.Struct, rename="camel"):
    subscription_limits: _Limits | None = None


def error_of(answer: HttpAnswer, api_key: Secret, *, subject: str, is_write: bool) -> ServiceError:
    """The error for an unsuccessful answer. ``subject`` completes the sentence "VAPI refused ..."."""
    status = answer.status
    message = message_of(answer.body, api_key)
    if is_write:
        log.warning("vapi.refused", status=status, subject=subject)
    sentence = f"VAPI refused {subject}: {message}" if message else f"VAPI refused {subject} ({status})"
    if status == 402:
        return PaymentRequiredError(sentence)
    if status == 429 or (400 <= status < 500 and _CONCURRENCY.search(message)):
        return TooManyRequestsError(sentence, headers=_retry_after(answer))
    if status in {401, 403}:
        return UpstreamError("VAPI does not accept our key; check VAPI_API_KEY")
    if status == 408:
        return UpstreamError("VAPI did not answer in time", is_outcome_unknown=is_write)
    if 400 <= status < 500:
        return InvalidRequestError(sentence)
    if status < 400:
        return UpstreamError("VAPI answered with a redirect, which is not followed; check VAPI_API_URL")
    return UpstreamError(f"VAPI is in trouble ({status})", is_outcome_unknown=is_write and status != 503)


def find_concurrency_refusal(body: bytes) -> TooManyRequestsError | None:
    """The refusal in a 201 whose ``subscriptionLimits`` say so: such a call "does not connect". Otherwise None.

    https://docs.vapi.ai/calls/call-concurrency
    """
    said = find_json(body, _Blocked)
    if said is None or said.subscription_limits is None or not said.subscription_limits.concurrency_blocked:
        return None
    return TooManyRequestsError("VAPI refused the call: all concurrent lines are in use")


def message_of(body: bytes, api_key: Secret) -> str:
    """VAPI's reason as one line of at most MAX_MESSAGE_LENGTH, without our key; "" if VAPI gives none."""
    said = find_json(body, _Refusal) or _Refusal()
    text = said.message if isinstance(said.message, str) else "; ".join(said.message)
    line = _NOT_SHOWN.sub(" ", text.replace(api_key.reveal(), "***")).strip()
    return line if len(line) <= MAX_MESSAGE_LENGTH else line[: MAX_MESSAGE_LENGTH - 1] + "…"


def find_json(body: bytes, wanted: type[_Value]) -> _Value | None:
    """The decoded body; None if it is not JSON of that type. Repairs texts that VAPI cut within a character."""
    try:
        return msgspec.json.decode(replace_lone_surrogates(body), type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _retry_after(answer: HttpAnswer) -> dict[str, str]:
    text = answer.headers.get("retry-after", "")
    if text.isascii() and text.isdigit() and len(text) < 9:
        return {"Retry-After": str(min(int(text), MAX_RETRY_AFTER_S))}
    return {}
