"""The part of a webhook that the archive may keep for debugging. Pure.

An allow-list: VAPI echoes telephony credentials, secrets of servers and tools, links that control a live call, and
presigned URLs (https://docs.vapi.ai/server-url/events shows few of them). What is not listed here is left out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec
from msgspec import Raw

from service.vapi.coercion import FieldReader
from service.vapi.json_checks import replace_lone_surrogates


class _Part(Enum):
    """How a part of the message is kept."""

    WHOLE = 1
    """As VAPI sent it."""
    URL = 2
    """A URL; a presigned one loses its query."""


WHOLE: Final = _Part.WHOLE

Allowed = dict[str, "Allowed | _Part"]

_CUSTOMER: Final[Allowed] = dict.fromkeys(("number", "name", "externalId", "extension"), WHOLE)
_DESTINATION: Final[Allowed] = dict.fromkeys(("type", "number", "assistantName", "description"), WHOLE)
_PHONE_NUMBER: Final[Allowed] = dict.fromkeys(("id", "number", "name", "provider"), WHOLE)
_ASSISTANT: Final[Allowed] = dict.fromkeys(("id", "name", "metadata"), WHOLE)

_RESULTS: Final[Allowed] = {
    **dict.fromkeys(
        (
            "status", "endedReason", "startedAt", "endedAt", "durationMs", "durationSeconds", "durationMinutes", "cost",
            "costBreakdown", "summary", "structuredData", "successEvaluation", "transcript", "messages", "analysis",
        ),
        WHOLE,
    ),
    "recordingUrl": _Part.URL,
    "stereoRecordingUrl": _Part.URL,
    "customer": _CUSTOMER,
    "destination": _DESTINATION,
    "phoneNumber": _PHONE_NUMBER,
    "assistant": _ASSISTANT,
    "artifact": {
        **dict.fromkeys(
            (
                "transcript", "messages", "structuredOutputs", "skippedStructuredOutputs",
                "structuredOutputsLastUpdatedAt", "scorecards", "performanceMetrics",
            ),
            WHOLE,
        ),
        "recordingUrl": _Part.URL,
        "stereoRecordingUrl": _Part.URL,
    },
}  # fmt: skip

_MESSAGE: Final[Allowed] = {
    **_RESULTS,
    **dict.fromkeys(("type", "timestamp", "role", "transcriptType", "turn", "turnId"), WHOLE),
    "call": {
        **_RESULTS,
        **dict.fromkeys(
            (
                "id", "orgId", "type", "name", "createdAt", "updatedAt", "assistantId", "phoneNumberId", "squadId",
                "workflowId", "phoneCallProvider", "phoneCallTransport", "metadata",
            ),
            WHOLE,
        ),
        "assistantOverrides": {"metadata": WHOLE},
    },
}  # fmt: skip

_BODY: Final[Allowed] = {"message": _MESSAGE}

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)


def raw_payload_of(body: bytes) -> bytes:
    """What may be kept of a body that ``decode_message`` took, as JSON. Empty where that cannot be told."""
    try:
        return _kept(body, _BODY)
    except RecursionError:
        return b""
    except msgspec.DecodeError:
        mended = replace_lone_surrogates(body)
        return raw_payload_of(mended) if mended != body else b""


def _kept(text: bytes, allowed: Allowed) -> bytes:
    """The allowed parts of an object; empty bytes when the text is no object."""
    if text[:1] != b"{":
        return b""
    fields = _OBJECT.decode(text)
    parts = []
    for name, kind in allowed.items():
        value = bytes(fields.get(name, b""))
        if isinstance(kind, dict):
            value = _kept(value, kind)
        elif kind is _Part.URL:
            value = _url(value)
        if value:
            parts.append(b'"%b":%b' % (name.encode(), value))
    return b"{%b}" % b",".join(parts)


def _url(value: bytes) -> bytes:
    url = FieldReader().url(_TEXT.decode(value)) if value[:1] == b'"' else None
    return msgspec.json.encode(url) if url else b""
