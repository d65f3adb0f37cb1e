"""The JSON that the fake VAPI keeps and sends: calls, their results, server messages. Numbers and names are invented."""

from __future__ import annotations

import copy
import secrets
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

ORG_ID: Final = "11111111-1111-4111-8111-111111111111"
PHONE_NUMBER_ID: Final = "22222222-2222-4222-8222-222222222222"
STRUCTURED_DATA: Final[dict[str, Any]] = {
    "availability": "available",
    "earliest_availability": "Tomorrow at 2pm",
    "estimated_rate": "$120/hour",
    "single_person_found": True,
    "technician_name": None,
    "all_criteria_met": True,
    "criteria_details": {"licensed": True},
    "disqualified": False,
    "disqualification_reason": None,
    "call_outcome": "positive",
    "recommended": True,
    "notes": "",
}


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What comes of a call."""

    ended_reason: str = "assistant-ended-call"
    lines: tuple[tuple[str, str], ...] = (
        ("bot", "Hi, can somebody come this week?"),
        ("user", "Yeah, tomorrow at two works — 👍."),
    )
    """Who said what; none: the call never connected."""
    duration_s: float = 26.26
    cost: float = 0.1187
    summary: str = "The provider can come tomorrow at 2pm for $120/hour."
    structured_data: Any = field(default_factory=lambda: dict(STRUCTURED_DATA))
    has_analysis: bool = True

    @property
    def is_connected(self) -> bool:
        return bool(self.lines)


NO_ANSWER: Final = Talk(ended_reason="customer-did-not-answer", lines=(), duration_s=0, cost=0, has_analysis=False)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(at_ms: float) -> str:
    """VAPI's form: UTC with milliseconds and a Z."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_call(order: dict[str, Any]) -> dict[str, Any]:
    """The Call of a 201, from the body of a ``POST /call``."""
    created, call_sid = iso(now_ms()), "CA" + secrets.token_hex(16)
    kept = ("assistantId", "assistant", "assistantOverrides", "phoneNumberId", "customer", "metadata", "name")
    return {
        "id": str(uuid.uuid4()),
        "orgId": ORG_ID,
        "createdAt": created,
        "updatedAt": created,
        "type": "outboundPhoneCall",
        "cost": 0,
        "monitor": {
            "listenUrl": "wss://phone-call-websocket.example.invalid/x/listen",
            "controlUrl": "https://phone-call-websocket.example.invalid/x/control",
        },
        "transport": {"conversationType": "voice", "provider": "twilio", "callSid": call_sid},
        "phoneCallProvider": "twilio",
        "phoneCallProviderId": call_sid,
        "phoneCallTransport": "pstn",
        "status": "scheduled" if order.get("schedulePlan") else "queued",
        **{name: copy.deepcopy(order[name]) for name in kept if order.get(name) is not None},
    }


def apply_end(call: dict[str, Any], talk: Talk) -> None:
    """What ``GET /call/{id}`` says from the end on: everything but the analysis."""
    ended_ms = now_ms()
    call |= {"endedReason": talk.ended_reason, "endedAt": iso(ended_ms), "analysis": {}, "messages": []}
    call["artifact"] = {"messages": [], "messagesOpenAIFormatted": [], "variableValues": _variables(call)}
    if not talk.is_connected:
        return
    started_ms = ended_ms - talk.duration_s * 1000
    messages = _messages(talk, started_ms)
    transcript = "".join(f"{'AI' if who == 'bot' else 'User'}: {text}\n" for who, text in talk.lines)
    recording = f"https://storage.example.invalid/recordings/{call['id']}-mono.wav"
    call |= {"startedAt": iso(started_ms), "transcript": transcript, "messages": messages, "recordingUrl": recording}
    call["artifact"] |= {
        "messages": messages,
        "transcript": transcript,
        "recordingUrl": recording,
        "recording": {"mono": {"combinedUrl": recording}},
    }


def apply_analysis(call: dict[str, Any], talk: Talk) -> None:
    """What the analysis adds, a while after the end; the cost is known by then as well."""
    call |= {"cost": talk.cost, "costBreakdown": {"total": talk.cost}, "costs": []}
    if talk.has_analysis:
        call["summary"] = talk.summary
        call["analysis"] = {
            "summary": talk.summary,
            "structuredData": talk.structured_data,
            "successEvaluation": "true",
        }


def status_update(snapshot: dict[str, Any], call: dict[str, Any], assistant: Any, status: str) -> dict[str, Any]:
    content = _common(snapshot, call, assistant) | {"type": "status-update", "status": status}
    if status == "ended":
        content["endedReason"] = call["endedReason"]
    return {"message": content}


def report(
    snapshot: dict[str, Any], call: dict[str, Any], assistant: Any, talk: Talk, *, is_preliminary: bool
) -> dict[str, Any]:
    """An end-of-call report; a preliminary one has no duration, summary, analysis or cost."""
    names = ("endedReason", "startedAt", "endedAt", "transcript", "messages", "recordingUrl")
    content = _common(snapshot, call, assistant) | {name: call[name] for name in names if name in call}
    content |= {"type": "end-of-call-report", "analysis": {}}
    if is_preliminary:
        return {"message": content}
    content |= {name: call[name] for name in ("analysis", "summary", "cost", "costBreakdown", "costs") if name in call}
    if talk.is_connected:
        content["durationMs"] = round(talk.duration_s * 1000)
        content["durationSeconds"] = talk.duration_s
        content["durationMinutes"] = talk.duration_s / 60
        # Fresh with every delivery, so that a hash of the body recognises nothing.
        content["artifact"]["presignedMonoUrl"] = f"{call['recordingUrl']}?X-Amz-Signature={secrets.token_hex(8)}"
        content["artifact"]["presignedUrlsExpiresAt"] = iso(now_ms() + 1_800_000)
    return {"message": content}


def _common(snapshot: dict[str, Any], call: dict[str, Any], assistant: Any) -> dict[str, Any]:
    """What every server message has. ``message.call`` is the call as it was when it was created, for ever."""
    return {
        "timestamp": now_ms(),
        "artifact": copy.deepcopy(call.get("artifact", {"messages": [], "messagesOpenAIFormatted": []})),
        "call": copy.deepcopy(snapshot),
        "phoneNumber": _phone_number(call),
        "customer": copy.deepcopy(call["customer"]),
        "assistant": copy.deepcopy(assistant),
        "assistantVersion": None,
    }


def _phone_number(call: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": call["phoneNumberId"],
        "orgId": ORG_ID,
        "number": "+18645550199",
        "provider": "twilio",
        "twilioAccountSid": "AC00000000000000000000000000000000",
        "server": {"url": "https://hooks.example.invalid/", "secret": "MUST-NOT-BE-STORED"},
        "name": None,
    }


def _variables(call: dict[str, Any]) -> dict[str, Any]:
    own = (call.get("assistantOverrides") or {}).get("variableValues") or {}
    phone_number = _phone_number(call) | {"twilioAuthToken": "MUST-NOT-BE-STORED"}
    return {"now": "Sep 1, 2026, 12:00 PM UTC", "customer": call["customer"], "phoneNumber": phone_number, **own}


def _messages(talk: Talk, started_ms: float) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "message": "You call service providers.", "time": started_ms, "secondsFromStart": 0}
    ]
    for place, (who, text) in enumerate(talk.lines):
        time_ms = started_ms + 1200 + place * 5000
        messages.append(
            {
                "role": who,
                "message": text,
                "time": time_ms,
                "endTime": time_ms + 3000,
                "secondsFromStart": 1.2 + place * 5,
                "duration": 3000,
                "source": "",
            }
        )
    return messages


def new_phone_number(identifier: str) -> dict[str, Any]:
    """A number bought from VAPI, as its API shows it; it answers no calls and names no server."""
    at = iso(now_ms())
    return {
        "id": identifier,
        "orgId": ORG_ID,
        "createdAt": at,
        "updatedAt": at,
        "provider": "vapi",
        "number": "+18645550100",
        "status": "active",
    }


def newest_first(kept: dict[str, dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """What VAPI lists of them by its filters."""
    found = list(kept.values())
    found.sort(key=lambda item: str(item["createdAt"]), reverse=True)
    for name in ("id", "assistantId", "phoneNumberId"):
        if name in query:
            found = [item for item in found if item.get(name) == query[name]]
    for name, holds in (("createdAtGt", str.__gt__), ("createdAtLt", str.__lt__)):
        if name in query:
            found = [item for item in found if holds(str(item["createdAt"]), query[name])]
    return found[: int(query.get("limit", "100"))]
