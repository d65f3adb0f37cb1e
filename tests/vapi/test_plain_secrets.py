"""A secret that is shown as it is: in which header, and with or without the word Bearer."""

from __future__ import annotations

import time

import pytest

from service.errors import InvalidSignatureError
from service.load_config import load_settings
from service.vapi.authentication import WebhookProof

GOOD: list[tuple[str, dict[bytes, bytes]]] = [
    ("secret", {b"x-vapi-secret": b"hunter7"}),
    ("secret", {b"x-vapi-secret": b"Bearer hunter7"}),
    ("secret", {b"x-vapi-signature": b"hunter7"}),
    ("secret", {b"x-vapi-signature": b"bearer hunter7"}),
    ("secret", {b"x-vapi-secret": b"wrong", b"x-vapi-signature": b"hunter7"}),
    ("bearer", {b"authorization": b"Bearer hunter7"}),
    ("bearer", {b"authorization": b"bearer  hunter7"}),
    ("bearer", {b"authorization": b"hunter7"}),
    ("bearer", {b"authorization": b"BEARER\thunter7"}),
    ("secret", {b"x-vapi-secret": b"hunter7 \t"}),
    ("secret", {b"x-vapi-signature": b" Bearer hunter7 "}),
    ("bearer", {b"authorization": b"hunter7  "}),
    ("secret,bearer", {b"x-vapi-secret": b"", b"authorization": b"Bearer hunter7"}),
    ("secret,bearer,hmac,legacy", {b"x-vapi-signature": b"second"}),
]
BAD: list[tuple[str, dict[bytes, bytes]]] = [
    ("secret", {}),
    ("secret", {b"authorization": b"Bearer hunter7"}),
    ("secret", {b"x-vapi-secret": b"hunter"}),
    ("secret", {b"x-vapi-secret": b"Bearer"}),
    ("secret", {b"x-vapi-secret": b"Basic hunter7"}),
    ("secret", {b"x-vapi-secret": b""}),
    ("secret", {b"x-vapi-secret": b" "}),
    ("secret", {b"x-vapi-secret": b"hunter7, hunter7"}),
    ("secret", {b"x-vapi-secret": b"Hunter7"}),
    ("secret", {b"x-vapi-secret": b"Bearerhunter7"}),
    ("bearer", {b"authorization": b"Bearer "}),
    ("secret", {b"x-vapi-signature": b"f" * 64}),
    ("bearer", {b"x-vapi-secret": b"hunter7"}),
    ("bearer", {b"x-vapi-signature": b"hunter7"}),
    ("bearer", {b"authorization": b"Basic hunter7"}),
    ("bearer", {b"authorization": b"Bearer Bearer hunter7"}),
    ("legacy", {b"x-vapi-signature": b"hunter7"}),
    ("hmac", {b"x-vapi-signature": b"hunter7"}),
    ("secret,bearer,hmac,legacy", {b"x-vapi-signature": b"hunter8"}),
]


def proof(modes: str) -> WebhookProof:
    return WebhookProof(load_settings({"VAPI_WEBHOOK_SECRET": "hunter7,second", "VAPI_WEBHOOK_AUTH": modes}))


def test_a_secret_proves_a_webhook_without_a_look_at_its_body() -> None:
    for modes, headers in GOOD:
        assert proof(modes).verify_headers(headers, time.time()) is None, (modes, headers)


def test_anything_else_is_refused_before_the_body_is_read() -> None:
    for modes, headers in BAD:
        with pytest.raises(InvalidSignatureError):
            raise AssertionError((modes, headers, proof(modes).verify_headers(headers, time.time())))


def test_a_secret_beyond_ascii_may_come_in_either_encoding() -> None:
    """Node writes headers in Latin-1, most other clients in UTF-8."""
    settings = load_settings({"VAPI_WEBHOOK_SECRET": "schlüssel", "VAPI_WEBHOOK_AUTH": "secret"})
    for codec in ("utf-8", "latin-1"):
        sent = "Bearer schlüssel".encode(codec)
        assert WebhookProof(settings).verify_headers({b"x-vapi-secret": sent}, time.time()) is None, codec


def test_a_signature_in_that_header_is_still_checked_against_the_body() -> None:
    assert proof("secret,legacy").verify_headers({b"x-vapi-signature": b"f" * 64}, time.time()) is not None
