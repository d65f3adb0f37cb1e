"""VAPI's webhook secret as a header holds it. Pure."""

from __future__ import annotations

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


def header_name(name: str) -> bytes:
    return name.strip().lower().encode()
