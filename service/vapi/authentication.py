"""VAPI's proof that a webhook is VAPI's, in every mode it can be configured to; pure functions over raw bytes.

VAPI sends no proof unless told to. What it can be told: https://docs.vapi.ai/server-url/server-authentication
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Final

from service.config import Settings
from service.errors import InvalidSignatureError

TIMESTAMP_WINDOW_S: Final = 300
"""How far a signature's timestamp may be off, either way."""

MILLISECONDS_ABOVE: Final = 100_000_000_000
"""VAPI does not say whether the timestamp is in seconds or ms: above 1e11 it can only be ms (1e11 s is the year 5138)."""

LEGACY_HEADER: Final = b"x-vapi-signature"


class WebhookProof:
    """Decides whether a request proves one of the secrets; built once from the settings.

    ``headers`` is always the request's headers, lower-case names to raw values.
    """

    def __init__(self, settings: Settings) -> None:
        secrets = [secret.reveal() for secret in settings.vapi_webhook_secret]
        modes = settings.vapi_webhook_auth
        self._is_open = settings.is_open
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._keys = tuple(_hmac_key(secret, is_base64=settings.vapi_hmac_secret_is_base64) for secret in secrets)
        self._secret_header = _header(settings.vapi_secret_header) if "secret" in modes else None
        self._takes_bearer = "bearer" in modes
        self._takes_legacy = "legacy" in modes
        self._hmac = HmacScheme(settings) if "hmac" in modes else None

    def verify_headers(self, headers: Mapping[bytes, bytes]) -> bool:
        """True when the headers alone prove it, False when the body must be read to know.

        Raises:
            InvalidSignatureError: no proof header is there, or only secret or bearer ones and none fits.
        """
        if self._is_open:
            return True
        offered = False
        if self._secret_header is not None and (sent := headers.get(self._secret_header)) is not None:
            offered = True
            if is_any_of(sent, self._secrets):
                return True
        if self._takes_bearer and (token := bearer_token(headers)) is not None:
            offered = True
            if is_any_of(token, self._secrets):
                return True
        if self._offers_signature(headers):
            return False
        raise InvalidSignatureError("no secret fits" if offered else "no proof header")

    def verify_body(self, headers: Mapping[bytes, bytes], body: bytes, now_s: float) -> None:
        """For a request that ``verify_headers`` left open: check the signature over the raw body.

        Raises:
            InvalidSignatureError: no signature fits, or its timestamp is missing or too far off.
        """
        reason = "signature does not match the body"
        if self._hmac is not None and self._hmac.signature_header in headers:
            try:
                self._hmac.verify(headers, body, self._keys, now_s)
            except InvalidSignatureError as exc:
                reason = exc.reason
            else:
                return
        if self._takes_legacy and (sent := headers.get(LEGACY_HEADER)) is not None:
            wanted = [hmac.digest(secret, body, "sha256").hex().encode() for secret in self._secrets]
            if is_any_of(sent.strip().lower(), wanted):
                return
        raise InvalidSignatureError(reason)

    def _offers_signature(self, headers: Mapping[bytes, bytes]) -> bool:
        if not self._secrets:
            return False
        if self._hmac is not None and self._hmac.signature_header in headers:
            return True
        return self._takes_legacy and LEGACY_HEADER in headers


class HmacScheme:
    """VAPI's ``HMACAuthenticationPlan``: https://api.vapi.ai/api-json, schema of that name."""

    def __init__(self, settings: Settings) -> None:
        self.signature_header = _header(settings.vapi_hmac_signature_header)
        self._timestamp_header = _header(settings.vapi_hmac_timestamp_header)
        self._message_id_header = _header(settings.vapi_hmac_message_id_header)
        self._algorithm = settings.vapi_hmac_algorithm
        self._is_hex = settings.vapi_hmac_encoding == "hex"
        self._format = settings.vapi_hmac_payload_format
        self._prefix = settings.vapi_hmac_prefix.encode()
        self._url = (settings.vapi_webhook_url or "").encode()

    def verify(self, headers: Mapping[bytes, bytes], body: bytes, keys: tuple[bytes, ...], now_s: float) -> None:
        timestamp = headers.get(self._timestamp_header, b"").strip()
        if "{timestamp}" in self._format:
            _verify_fresh(timestamp, now_s)
        sent = headers[self.signature_header].strip()
        if not sent.startswith(self._prefix):
            raise InvalidSignatureError("signature lacks the configured prefix")
        payload = self._payload(headers, body, timestamp)
        digests = [hmac.digest(key, payload, self._algorithm) for key in keys]
        if not is_any_of(self._canonical(sent[len(self._prefix) :]), [self._encode(digest) for digest in digests]):
            raise InvalidSignatureError("signature does not match the body")

    def _payload(self, headers: Mapping[bytes, bytes], body: bytes, timestamp: bytes) -> bytes:
        if self._format == "{timestamp}.{body}":
            return b"%b.%b" % (timestamp, body)
        parts = {
            b"{timestamp}": timestamp,
            b"{method}": b"POST",
            b"{url}": self._url,
            b"{svix-id}": headers.get(self._message_id_header, b"").strip(),
        }
        before, _, after = self._format.encode().partition(b"{body}")
        for placeholder, value in parts.items():
            before = before.replace(placeholder, value)
            after = after.replace(placeholder, value)
        return b"".join((before, body, after))

    def _encode(self, digest: bytes) -> bytes:
        return digest.hex().encode() if self._is_hex else base64.b64encode(digest)

    def _canonical(self, sent: bytes) -> bytes:
        return sent.lower() if self._is_hex else sent


def bearer_token(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The token of an ``Authorization: Bearer`` header, None when there is none (RFC 6750)."""
    value = headers.get(b"authorization")
    if value is None or value[:7].lower() != b"bearer ":
        return None
    return value[7:].strip()


def _verify_fresh(timestamp: bytes, now_s: float) -> None:
    try:
        sent_s = float(timestamp.decode("ascii"))
    except ValueError:
        raise InvalidSignatureError("timestamp header missing or not a number") from None
    if sent_s > MILLISECONDS_ABOVE:
        sent_s /= 1000
    if not abs(now_s - sent_s) <= TIMESTAMP_WINDOW_S:
        raise InvalidSignatureError("timestamp is more than 5 minutes off")


def is_any_of(sent: bytes, wanted: tuple[bytes, ...] | list[bytes]) -> bool:
    """Compares with every candidate, each in constant time, so that the answer's time tells nothing."""
    found = False
    for candidate in wanted:
        found |= hmac.compare_digest(sent, candidate)
    return found


def _hmac_key(secret: str, *, is_base64: bool) -> bytes:
    return base64.b64decode(secret) if is_base64 else secret.encode()


def _header(name: str) -> bytes:
    return name.strip().lower().encode()
