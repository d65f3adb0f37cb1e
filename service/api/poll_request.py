"""Reads what a poll asks for from its path, query, ``Prefer`` and ``If-None-Match``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, cast
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Scope

from service.calls.call_id import is_call_id
from service.calls.record import View
from service.errors import Detail, InvalidRequestError

MAX_QUERY_KEPT: Final = 100
"""Longest query string whose parsed form is cached, in bytes."""

MAX_ETAGS: Final = 100
"""Most entity tags that are read from ``If-None-Match``; a client has a few. Each is an object, and a parked poll that
brought 15,000 of them held 1 MB."""

_NO_QUERY: Final[tuple[View, float | None]] = ("full", None)
SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_PREFERENCE: Final = re.compile(r'(?:[^,;"]|"[^"]*"?)+')
"""One element of the list in ``Prefer``, separated by commas or semicolons outside quotes."""

_WAIT: Final = re.compile(r'\s*wait\s*=\s*("?)([0-9.]+)\1\s*', re.IGNORECASE)


class PollRequest(msgspec.Struct, frozen=True):
    """What a poller asks for."""

    call_id: bytes
    view: View
    wait_s: float | None
    """Seconds, at most ``MAX_WAIT_S``. None: answer at once, with 404 if there is no record."""
    preference_applied: tuple[tuple[bytes, bytes], ...]
    """The answer's header that confirms ``Prefer: wait`` (RFC 7240); empty if the wait came otherwise."""
    known_etags: tuple[bytes, ...]
    """The first MAX_ETAGS entity tags in ``If-None-Match``."""


def read_poll_request(scope: Scope, prefix: str, max_wait_s: float) -> PollRequest:
    """Raises InvalidRequestError for a malformed call id, ``wait`` or ``view``. A malformed ``Prefer`` is ignored."""
    headers: Mapping[bytes, bytes] = scope["named_headers"]
    call_id = read_call_id(scope["path"][len(prefix) :])
    raw_query: bytes = scope["query_string"]
    view, asked_s = _NO_QUERY
    if raw_query:
        view, asked_s = (
            _read_query(raw_query) if len(raw_query) <= MAX_QUERY_KEPT else _read_query.__wrapped__(raw_query)
        )
    known: tuple[bytes, ...] = ()
    if match := headers.get(b"if-none-match"):
        tags = match.split(b",", MAX_ETAGS)[:MAX_ETAGS]
        known = tuple([tag.strip().removeprefix(b"W/") for tag in tags if tag.strip()])
    applied: tuple[tuple[bytes, bytes], ...] = ()
    wait_s: float | None = None
    if asked_s is not None:
        wait_s = min(asked_s, max_wait_s)
    elif b"prefer" in headers and (preferred := _preferred_wait_s(headers[b"prefer"])) is not None:
        wait_s = min(preferred, max_wait_s)
        applied = ((b"preference-applied", b"wait=%b" % f"{wait_s:g}".encode()),)
    return PollRequest(call_id, view, wait_s, applied, known)


@lru_cache(maxsize=256)
def _read_query(raw: bytes) -> tuple[View, float | None]:
    """The view, and the seconds to wait or None. Cached, because pollers repeat the same query."""
    query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
    view = query.get("view", "full")
    if view not in ("full", "summary"):
        raise InvalidRequestError("Invalid query", details=(Detail("view", "must be full or summary"),))
    wait = query.get("wait")
    if wait is not None and not SECONDS.fullmatch(wait):
        raise InvalidRequestError("Invalid query", details=(Detail("wait", "must be seconds, 0 or more"),))
    return cast("View", view), float(wait) if wait is not None else None


def read_view(scope: Scope) -> View:
    """What is to be shown of the record. Raises InvalidRequestError."""
    return _read_query.__wrapped__(scope["query_string"])[0]


def read_wait_s(scope: Scope) -> float | None:
    """The seconds in ``wait``, if it is there. Raises InvalidRequestError."""
    return _read_query.__wrapped__(scope["query_string"])[1]


def read_call_id(text: str) -> bytes:
    if not is_call_id(text):
        raise InvalidRequestError(
            "Invalid call id", details=(Detail("call_id", "must match [A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"),)
        )
    return text.encode()


def is_known(etag: bytes, known: tuple[bytes, ...]) -> bool:
    """Weak comparison, as ``If-None-Match`` requires (RFC 9110, section 13.1.2)."""
    return etag in known or b"*" in known


def _preferred_wait_s(prefer: bytes) -> float | None:
    """The seconds of the first ``wait`` preference (RFC 7240, section 2); None without a valid one."""
    found = next(filter(None, map(_WAIT.fullmatch, _PREFERENCE.findall(prefer.decode("latin-1")))), None)
    return float(found[2]) if found and SECONDS.fullmatch(found[2]) else None
