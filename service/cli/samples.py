"""Small server messages in VAPI's form, for trying the service. Numbers, names and ids are invented."""

from __future__ import annotations

import time
from typing import Any, Final

SAMPLES: Final = ("end-of-call-report", "status-update", "hang")


def sample_message(name: str, call_id: str) -> dict[str, Any]:
    """One of SAMPLES for the call, with the current time."""
    message: dict[str, Any] = {
        "timestamp": round(time.time() * 1000),
        "type": name,
        "call": {"id": call_id, "status": "queued", "customer": {"number": "+18641234567"}},
    }
    if name == "status-update":
        message["status"] = "in-progress"
    if name == "end-of-call-report":
        message |= {
            "endedReason": "assistant-ended-call",
            "startedAt": "2026-09-01T12:00:00.000Z",
            "endedAt": "2026-09-01T12:05:00.000Z",
            "durationSeconds": 300,
            "cost": 0.12,
            "artifact": {"transcript": "AI: Hello.\nUser: Hello, how can I help?\n"},
            "analysis": {
                "summary": "The provider is available tomorrow at 2pm for $100/hour.",
                "structuredData": {"availability": "available", "estimated_rate": "$100/hour"},
                "successEvaluation": "true",
            },
        }
    return {"message": message}
