"""Secrets that a header holds as they are: VAPI's webhook secret, callers' tokens. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from service.config import Settings

LEGACY_HEADER: Final = b"x-vapi-signature"


def secret_headers_of(settings: Settings) -> tuple[bytes, ...]:
    """The headers that may hold a plain secret. VAPI's documents of March 2025 put it into the signature's header."""
    headers: dict[bytes, None] = {}
    if "secret" in settings.vapi_webhook_auth:
        headers |= dict.fromkeys((header_name(settings.vapi_secret_header), LEGACY_HEADER))
    if "bearer" in settings.vapi_webhook_auth:
        headers[b"authorization"] = None
    return tuple(headers)


def without_bearer(value: bytes) -> bytes:
    """The value without a leading "Bearer ". VAPI's credentials can add the word in any header."""
    return value[7:].strip() if value[:7].lower() in (b"bearer ", b"bearer\t") else value


def as_sent(secrets: list[str]) -> tuple[bytes, ...]:
    """The bytes of each secret in a header: in UTF-8, and in Latin-1, in which Node writes headers."""
    sent = {secret.encode(): None for secret in secrets}
    sent |= {secret.encode("latin-1"): None for secret in secrets if max(secret) < "\u0100"}
    return tuple(sent)


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


def header_name(name: str) -> bytes:
    return name.strip().lower().encode()
