"""Reads request headers: by name, the request id, bearer tokens and other secrets."""

from __future__ import annotations

import hmac
import random
import re
from collections.abc import Iterable, Mapping
from typing import Final

NO_STORE: Final = (b"cache-control", b"no-store")
"""Every answer's: records are personal data, and change."""

RETRY_AFTER_1_S: Final = (b"retry-after", b"1")

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Header values by lower-case name. Repeated headers are joined to one list (RFC 9110, section 5.3)."""
    named = dict(headers)
    if len(named) == len(headers):
        return named
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in lines.items()}


def request_id_of(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id")
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return b"%016x" % random.getrandbits(64)


def bearer_token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The token of the ``Authorization: Bearer`` header (RFC 6750); None without one."""
    value = headers.get(b"authorization", b"")
    return value[7:].strip() if value[:7].lower() == b"bearer " else None


def is_any_of(sent: bytes, wanted: Iterable[bytes]) -> bool:
    """Compares with every candidate, each in constant time, so that the time taken reveals nothing."""
    found = False
    for candidate in wanted:
        found |= hmac.compare_digest(sent, candidate)
    return found
