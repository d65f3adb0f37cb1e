"""Signs what we send by the Standard Webhooks specification, so that receivers verify it with a library.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with

SHORTEST_KEY_BYTES: Final = 24
LONGEST_KEY_BYTES: Final = 64


def decode_secret(secret: str) -> bytes:
    """The key. Raises ValueError with a sentence that quotes nothing of the secret."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    if encoded == secret:
        raise ValueError(f"must begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"must be {SECRET_PREFIX} and base64") from None
    if not SHORTEST_KEY_BYTES <= len(key) <= LONGEST_KEY_BYTES:
        raise ValueError(f"must be base64 of {SHORTEST_KEY_BYTES} to {LONGEST_KEY_BYTES} bytes")
    return key


def signed_headers(keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """One signature per key, so that a receiver may still have the old secret or already the new one.

    ``message_id`` is the same for all attempts to deliver one message; ``timestamp_s`` is of this attempt, in seconds since
    the epoch.
    """
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    signatures = (base64.b64encode(hmac.digest(key, signed, sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join("v1," + signature for signature in signatures),
    }
