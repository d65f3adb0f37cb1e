"""Verifies that a webhook comes from VAPI, in every mode that VAPI offers. Works on raw bytes, without I/O.

VAPI sends no proof unless configured to: https://docs.vapi.ai/server-url/server-authentication
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.config import Settings
from service.errors import InvalidSignatureError
from service.headers import is_any_of
from service.vapi.plain_secrets import (
    LEGACY_HEADER,
    as_sent,
    header_name,
    secret_headers_of,
    without_bearer,
)
from service.vapi.times import EPOCH_MS_FROM

TIMESTAMP_WINDOW_S: Final = 300
"""How far a signature's timestamp may differ from our clock, either way."""


class WebhookProof:
    """Checks that the sender of a request knows one of the secrets. Created once from the settings.

    ``headers`` are always the request's headers, from lower-case names to raw values.
    """

    def __init__(self, settings: Settings) -> None:
        modes = settings.vapi_webhook_auth
        self._is_open = settings.is_open
        self._secrets = as_sent([secret.reveal() for secret in settings.vapi_webhook_secret])
        self._secret_headers = secret_headers_of(settings)
        schemes = {"hmac": _configured_scheme, "legacy": _legacy_scheme}
        self._schemes = [make(settings) for mode, make in schemes.items() if mode in modes and self._secrets]

    def verify_headers(self, headers: Mapping[bytes, bytes], now_s: float) -> SignatureCheck | None:
        """None when the headers alone are proof, otherwise the check that the body must pass.

        Raises:
            InvalidSignatureError: there is no proof header, or none can be valid: a wrong secret, a timestamp that is
                missing or too far off, a malformed signature.
        """
        if self._is_open:
            return None
        offered = False
        for header in self._secret_headers:
            if (sent := headers.get(header)) is not None:
                offered = True
                sent = sent.strip()
                if is_any_of(sent, self._secrets) or is_any_of(without_bearer(sent), self._secrets):
                    return None
        return self._check_of(headers, now_s, "no secret fits" if offered else "no proof header")

    def _check_of(self, headers: Mapping[bytes, bytes], now_s: float, otherwise: str) -> SignatureCheck:
        """Raises InvalidSignatureError, with ``otherwise`` as its reason when there is no signature header."""
        expected, reasons = [], []
        for scheme in self._schemes:
            if scheme.signature_header in headers:
                try:
                    expected.append(scheme.expect(headers, now_s))
                except InvalidSignatureError as exc:
                    reasons.append(exc.reason)
        if not expected:
            raise InvalidSignatureError(reasons[0] if reasons else otherwise)
        return SignatureCheck(expected, reasons[0] if reasons else "signature does not match the body")


class SignatureCheck:
    """Hashes a body piece by piece as it arrives, so that a large body does not block other requests."""

    def __init__(self, expected: list[ExpectedSignature], reason: str) -> None:
        self._expected = expected
        self._reason = reason

    def add(self, piece: bytes) -> None:
        for signature in self._expected:
            for mac in signature.macs:
                mac.update(piece)

    def verify(self) -> None:
        """Call this once, after the whole body was added.

        Raises:
            InvalidSignatureError: no signature matches the body.
        """
        found = False
        for signature in self._expected:
            found |= signature.fits()  # each is compared, see is_any_of
        if not found:
            raise InvalidSignatureError(self._reason)


@dataclass(frozen=True, slots=True)
class ExpectedSignature:
    """The signature sent in one header, and a MAC for each key that may have made it."""

    sent: bytes
    macs: list[hmac.HMAC]
    after_body: bytes
    is_hex: bool

    def fits(self) -> bool:
        for mac in self.macs:
            mac.update(self.after_body)
        digests = [mac.digest() for mac in self.macs]
        return is_any_of(self.sent, [_encode(digest, is_hex=self.is_hex) for digest in digests])


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureScheme:
    """VAPI's ``HMACAuthenticationPlan``: https://api.vapi.ai/api-json, schema of that name."""

    keys: tuple[bytes, ...]
    signature_header: bytes
    shape: re.Pattern[bytes]
    """Matches every well-formed signature of this scheme; hex is in lower case."""
    algorithm: str = "sha256"
    is_hex: bool = True
    payload_format: bytes = b"{body}"
    prefix: bytes = b""
    timestamp_header: bytes = b""
    message_id_header: bytes = b""
    url: bytes = b""

    def expect(self, headers: Mapping[bytes, bytes], now_s: float) -> ExpectedSignature:
        """The signature that the request's body must have, according to its headers.

        Raises:
            InvalidSignatureError: the timestamp is missing or too far off, or the signature is malformed.
        """
        timestamp = headers.get(self.timestamp_header, b"").strip()
        if b"{timestamp}" in self.payload_format:
            _verify_fresh(timestamp, now_s)
        sent = headers[self.signature_header].strip()
        if not sent.startswith(self.prefix):
            raise InvalidSignatureError("signature lacks the configured prefix")
        sent = sent[len(self.prefix) :].lower() if self.is_hex else sent[len(self.prefix) :]
        if not self.shape.fullmatch(sent):
            raise InvalidSignatureError("signature is malformed")
        before, after = self._around_body(headers, timestamp)
        return ExpectedSignature(sent, [hmac.new(key, before, self.algorithm) for key in self.keys], after, self.is_hex)

    def _around_body(self, headers: Mapping[bytes, bytes], timestamp: bytes) -> tuple[bytes, bytes]:
        """The signed bytes before the body, and those after it."""
        parts = {
            b"{timestamp}": timestamp,
            b"{method}": b"POST",
            b"{url}": self.url,
            b"{svix-id}": headers.get(self.message_id_header, b"").strip(),
        }
        before, _, after = self.payload_format.partition(b"{body}")
        for placeholder, value in parts.items():
            before = before.replace(placeholder, value)
            after = after.replace(placeholder, value)
        return before, after


def _configured_scheme(settings: Settings) -> SignatureScheme:
    is_hex = settings.vapi_hmac_encoding == "hex"
    return SignatureScheme(
        keys=tuple(
            _hmac_key(secret.reveal(), is_base64=settings.vapi_hmac_secret_is_base64)
            for secret in settings.vapi_webhook_secret
        ),
        signature_header=header_name(settings.vapi_hmac_signature_header),
        shape=_shape_of(settings.vapi_hmac_algorithm, is_hex=is_hex),
        algorithm=settings.vapi_hmac_algorithm,
        is_hex=is_hex,
        payload_format=settings.vapi_hmac_payload_format.encode(),
        prefix=settings.vapi_hmac_prefix.encode(),
        timestamp_header=header_name(settings.vapi_hmac_timestamp_header),
        message_id_header=header_name(settings.vapi_hmac_message_id_header),
        url=(settings.vapi_webhook_url or "").encode(),
    )


def _legacy_scheme(settings: Settings) -> SignatureScheme:
    """The original design's signature: of the body alone, with the secret as written as key."""
    return SignatureScheme(
        keys=tuple(secret.reveal().encode() for secret in settings.vapi_webhook_secret),
        signature_header=LEGACY_HEADER,
        shape=_shape_of("sha256", is_hex=True),
    )


def _shape_of(algorithm: str, *, is_hex: bool) -> re.Pattern[bytes]:
    """A pattern for well-formed signatures, to check them before the body is read."""
    example = _encode(bytes(hashlib.new(algorithm).digest_size), is_hex=is_hex)
    if is_hex:
        return re.compile(b"[0-9a-f]{%d}" % len(example))
    padding = example.count(b"=")
    return re.compile(b"[A-Za-z0-9+/]{%d}={%d}" % (len(example) - padding, padding))


def _encode(digest: bytes, *, is_hex: bool) -> bytes:
    return digest.hex().encode() if is_hex else base64.b64encode(digest)


def _verify_fresh(timestamp: bytes, now_s: float) -> None:
    try:
        sent_s = float(timestamp.decode("ascii"))
    except ValueError:
        raise InvalidSignatureError("timestamp header missing or not a number") from None
    if sent_s >= EPOCH_MS_FROM:
        sent_s /= 1000
    if not abs(now_s - sent_s) <= TIMESTAMP_WINDOW_S:
        raise InvalidSignatureError("timestamp is more than 5 minutes off")


def _hmac_key(secret: str, *, is_base64: bool) -> bytes:
    return base64.b64decode(secret) if is_base64 else secret.encode()
