"""A webhook request and the settings it meets: does the service believe that it is VAPI's?"""

from __future__ import annotations

from service.errors import InvalidSignatureError
from service.load_config import load_settings
from service.vapi.authentication import WebhookProof

SECRET = "correct-horse-battery-staple"
BODY = '{"message":{"type":"status-update","note":"é ✓ \\u00e9 1.0"}}'.encode()
NOW_S = 1_788_264_000.0
"""When the tests' requests arrive: 2026-09-01T12:00:00Z."""


def proof_with(**settings: str) -> WebhookProof:
    """The proof as an environment with these variables gives it; there is always a secret."""
    return WebhookProof(load_settings({"VAPI_WEBHOOK_SECRET": SECRET, **settings}))


def lower(headers: dict[str, str]) -> dict[bytes, bytes]:
    """As a server hands headers on: names in lower case, values as bytes."""
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


def refusal(proof: WebhookProof, headers: dict[bytes, bytes], body: bytes = BODY, now_s: float = NOW_S) -> str | None:
    """Why the request is refused; None when it is taken."""
    try:
        check = proof.verify_headers(headers, now_s)
        if check is not None:
            for start in range(0, len(body), 7):
                check.add(body[start : start + 7])
            check.verify()
    except InvalidSignatureError as exc:
        return exc.reason
    return None


def is_taken(proof: WebhookProof, headers: dict[bytes, bytes], body: bytes = BODY, now_s: float = NOW_S) -> bool:
    return refusal(proof, headers, body, now_s) is None
