"""VAPI's side of a webhook, written from its documentation and not from our code: bodies, proofs, samples."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "vapi"
SAMPLE_CALL_ID = "01a0b1c2-d3e4-7000-8abc-0123456789ab"
CREATED_MS = 1_788_264_000_000


def sample_bytes(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def sample(name: str, call_id: str | None = None) -> dict[str, Any]:
    """A sample body, for another call if one is named."""
    text = sample_bytes(name).decode()
    body: dict[str, Any] = json.loads(text.replace(SAMPLE_CALL_ID, call_id) if call_id else text)
    return body


def sample_names() -> list[str]:
    return sorted(path.stem for path in SAMPLES.glob("*.json") if path.stem != "hmac-vectors")


def message(
    type_: str, call_id: str | None = "call-1", *, at_ms: int | None = CREATED_MS, **fields: Any
) -> dict[str, Any]:
    """A body with one message; ``call`` may be given to replace the usual one."""
    content: dict[str, Any] = {"type": type_}
    if at_ms is not None:
        content["timestamp"] = at_ms
    if call_id is not None:
        content["call"] = {"id": call_id}
    return {"message": {**content, **fields}}


def status_update(status: str, call_id: str = "call-1", **fields: Any) -> dict[str, Any]:
    return message("status-update", call_id, status=status, **fields)


def full_report(call_id: str = "call-1", **fields: Any) -> dict[str, Any]:
    """A full end-of-call report with analysis, small."""
    results: dict[str, Any] = {
        "endedReason": "assistant-ended-call",
        "startedAt": "2026-09-01T12:00:19.000Z",
        "endedAt": "2026-09-01T12:00:45.260Z",
        "durationSeconds": 26.26,
        "cost": 0.1187,
        "artifact": {
            "transcript": "AI: Hello.\nUser: Hi.\n",
            "messages": [{"role": "bot", "message": "Hello."}, {"role": "user", "message": "Hi."}],
            "recordingUrl": "https://storage.example/recording.wav",
        },
        "analysis": {
            "summary": "They said hello.",
            "structuredData": {"disqualified": False},
            "successEvaluation": "true",
        },
        "customer": {"number": "+18645550123"},
    }
    return message("end-of-call-report", call_id, **{**results, **fields})


def preliminary_report(call_id: str = "call-1", **fields: Any) -> dict[str, Any]:
    return message("end-of-call-report", call_id, **{"endedReason": "assistant-ended-call", "analysis": {}, **fields})


def sign(
    body: bytes,
    secret: str,
    *,
    algorithm: str = "sha256",
    encoding: str = "hex",
    payload_format: str = "{timestamp}.{body}",
    prefix: str = "",
    timestamp: str | None = None,
) -> dict[str, str]:
    """The two headers of VAPI's HMAC credential with its default names."""
    stamp = timestamp if timestamp is not None else str(int(time.time() * 1000))
    payload = payload_format.encode().replace(b"{timestamp}", stamp.encode()).replace(b"{body}", body)
    digest = hmac.new(secret.encode(), payload, getattr(hashlib, algorithm)).digest()
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    return {"x-signature": prefix + text, "x-timestamp": stamp}
