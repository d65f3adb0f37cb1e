"""A small client for this service's own HTTP API, for the command line."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from service.config import Settings

TIMEOUT_S: Final = 10.0
"""Timeout in addition to what the service may take for the answer."""

PLACING_S: Final = 25.0
"""More than the 20 s that VAPI gets. A client that gives up earlier does not learn the call's id."""


class ServiceAnswer:
    """The status and decoded body of an answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body


class UnreachableError(Exception):
    """There is no answer at the address."""


class ServiceClient:
    """Talks to one replica, or to the load balancer in front of several."""

    def __init__(self, base_url: str, token: str | None) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token

    def get_call(self, call_id: str, *, wait_s: float | None = None, view: str = "full") -> ServiceAnswer:
        query = f"?view={view}" + (f"&wait={wait_s:.3f}" if wait_s is not None else "")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return self._send("GET", f"/api/v1/vapi/calls/{quote(call_id, safe='')}{query}", None, headers, wait_s or 0)

    def place_call(self, body: bytes, idempotency_key: str | None) -> ServiceAnswer:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return self._send("POST", "/api/v1/vapi/calls", body, headers, PLACING_S)

    def send_webhook(self, body: bytes, headers: Mapping[str, str]) -> ServiceAnswer:
        return self._send("POST", "/api/v1/vapi/webhook", body, {"Content-Type": "application/json", **headers}, 0)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wait_s: float
    ) -> ServiceAnswer:
        try:
            request = urllib.request.Request(self._base_url + path, data=body, headers=dict(headers), method=method)  # noqa: S310 - the operator's own URL
            with urllib.request.urlopen(request, timeout=TIMEOUT_S + wait_s) as response:  # noqa: S310
                return ServiceAnswer(response.status, json.loads(response.read() or b"{}"))
        except urllib.error.HTTPError as exc:
            return ServiceAnswer(exc.code, _json_or_text(exc.read()))
        except (OSError, ValueError, http.client.HTTPException) as exc:
            raise UnreachableError(f"{self._base_url} cannot be reached: {getattr(exc, 'reason', exc)}") from exc


def prove(settings: Settings, mode: str, body: bytes) -> dict[str, str]:
    """The headers that VAPI would send as proof for this body, in the given mode, with the first configured secret."""
    if mode == "none" or not settings.vapi_webhook_secret:
        return {}
    secret = settings.vapi_webhook_secret[0].reveal()
    if mode == "secret":
        return {settings.vapi_secret_header: secret}
    if mode == "bearer":
        return {"Authorization": f"Bearer {secret}"}
    if mode == "legacy":
        return {"X-Vapi-Signature": hmac.digest(secret.encode(), body, "sha256").hex()}
    return _sign(settings, secret, body)


def _sign(settings: Settings, secret: str, body: bytes) -> dict[str, str]:
    timestamp, message_id = str(round(time.time() * 1000)), "msg_from_the_command_line"
    key = base64.b64decode(secret) if settings.vapi_hmac_secret_is_base64 else secret.encode()
    before, _, after = settings.vapi_hmac_payload_format.partition("{body}")
    values = {
        "{timestamp}": timestamp,
        "{method}": "POST",
        "{url}": settings.vapi_webhook_url or "",
        "{svix-id}": message_id,
    }
    for placeholder, value in values.items():
        before, after = before.replace(placeholder, value), after.replace(placeholder, value)
    digest = hmac.digest(key, before.encode() + body + after.encode(), settings.vapi_hmac_algorithm)
    encoded = digest.hex() if settings.vapi_hmac_encoding == "hex" else base64.b64encode(digest).decode()
    return {
        settings.vapi_hmac_signature_header: settings.vapi_hmac_prefix + encoded,
        settings.vapi_hmac_timestamp_header: timestamp,
        settings.vapi_hmac_message_id_header: message_id,
    }


def _json_or_text(body: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(body)
    except ValueError:
        return {"error": body.decode(errors="replace")[:500]}
    return decoded if isinstance(decoded, dict) else {"error": str(decoded)}
