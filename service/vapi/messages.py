"""VAPI's server messages as structs, with only the fields we read. All fields but ``type`` are optional.

VAPI sends ``{"message": {...}}``; https://docs.vapi.ai/server-url/events lists the types. VAPI's OpenAPI document
requires almost no fields, and real messages differ even from that. If a text or object field has another type, the
message is coerced first (coercion.py). Fields that are large or may have any type stay undecoded (``Raw``).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.errors import Detail, InvalidMessageError
from service.vapi.coercion import ABSENT, Text, coerce
from service.vapi.json_checks import TOO_DEEP, NotJSONError, check_utf8, replace_lone_surrogates


class Customer(Struct):
    number: Text = None
    sipUri: Text = None  # noqa: N815 - VAPI's spelling, here and below


class PhoneNumber(Struct):
    id: Raw = ABSENT


class TranscriptPlan(Struct):
    assistantName: Text = None  # noqa: N815
    userName: Text = None  # noqa: N815


class ArtifactPlan(Struct):
    """What VAPI was asked to keep of the call."""

    recordingEnabled: Raw = ABSENT  # noqa: N815
    structuredOutputIds: Raw = ABSENT  # noqa: N815
    structuredOutputs: Raw = ABSENT  # noqa: N815
    transcriptPlan: TranscriptPlan | None = None  # noqa: N815


class Assistant(Struct):
    """An assistant, or the overrides of one; those for assistant, squad and workflow have the same form."""

    id: Raw = ABSENT
    metadata: Raw = ABSENT
    variableValues: Raw = ABSENT  # noqa: N815
    artifactPlan: ArtifactPlan | None = None  # noqa: N815


class Analysis(Struct):
    """Its fields stay undecoded: even a value of an odd type shows that there was an analysis (``has_analysis``)."""

    summary: Raw = ABSENT
    structuredData: Raw = ABSENT  # noqa: N815
    structuredDataMulti: Raw = ABSENT  # noqa: N815
    successEvaluation: Raw = ABSENT  # noqa: N815


class Artifact(Struct):
    transcript: Raw = ABSENT
    messages: Raw = ABSENT
    recordingUrl: Text = None  # noqa: N815
    stereoRecordingUrl: Text = None  # noqa: N815
    recording: Raw = ABSENT
    structuredOutputs: Raw = ABSENT  # noqa: N815
    skippedStructuredOutputs: Raw = ABSENT  # noqa: N815
    structuredOutputsLastUpdatedAt: Raw = ABSENT  # noqa: N815
    variableValues: Raw = ABSENT  # noqa: N815
    variables: Raw = ABSENT


class CostBreakdown(Struct):
    total: Raw = ABSENT


class Results(Struct):
    """The results of a call: at ``message.*`` in a real report, inside ``message.call.*`` in a hand-made one."""

    status: Text = None
    endedReason: Text = None  # noqa: N815
    startedAt: Raw = ABSENT  # noqa: N815
    endedAt: Raw = ABSENT  # noqa: N815
    durationSeconds: Raw = ABSENT  # noqa: N815
    durationMs: Raw = ABSENT  # noqa: N815
    durationMinutes: Raw = ABSENT  # noqa: N815
    cost: Raw = ABSENT
    costBreakdown: CostBreakdown | None = None  # noqa: N815
    summary: Raw = ABSENT
    structuredData: Raw = ABSENT  # noqa: N815
    successEvaluation: Raw = ABSENT  # noqa: N815
    transcript: Raw = ABSENT
    messages: Raw = ABSENT
    recordingUrl: Text = None  # noqa: N815
    stereoRecordingUrl: Text = None  # noqa: N815
    destination: Raw = ABSENT
    analysis: Analysis | None = None
    artifact: Artifact | None = None
    customer: Customer | None = None
    phoneNumber: PhoneNumber | None = None  # noqa: N815
    assistant: Assistant | None = None


class Call(Results):
    """``message.call``: a snapshot from the call's creation, which VAPI never updates."""

    id: Text = None
    type: Raw = ABSENT
    assistantId: Raw = ABSENT  # noqa: N815
    phoneNumberId: Raw = ABSENT  # noqa: N815
    metadata: Raw = ABSENT
    assistantOverrides: Assistant | None = None  # noqa: N815
    squadOverrides: Assistant | None = None  # noqa: N815
    workflowOverrides: Assistant | None = None  # noqa: N815
    artifactPlan: ArtifactPlan | None = None  # noqa: N815
    updatedAt: Raw = ABSENT  # noqa: N815

    def overrides(self) -> list[Assistant]:
        """Those that were given, in order of precedence."""
        return [
            each for each in (self.assistantOverrides, self.squadOverrides, self.workflowOverrides) if each is not None
        ]


class ServerMessage(Results, kw_only=True):
    """``message``; ``type`` is the only required field."""

    type: str
    timestamp: Raw = ABSENT
    call: Call | None = None
    toolCallList: Raw = ABSENT  # noqa: N815
    toolCalls: Raw = ABSENT  # noqa: N815
    toolWithToolCallList: Raw = ABSENT  # noqa: N815


class _Envelope(Struct):
    message: ServerMessage


_DECODER: Final = msgspec.json.Decoder(_Envelope)
_ANY_JSON: Final = msgspec.json.Decoder(Raw)


class Received(Struct):
    """A decoded message, and how many fields of it were dropped for having an impossible type."""

    message: ServerMessage
    dropped: int = 0


def decode_message(body: bytes) -> Received:
    """The server message in a webhook's body.

    A lone surrogate escape becomes U+FFFD. VAPI cuts texts by length, even in the middle of an emoji.

    Raises:
        InvalidMessageError: not UTF-8, not JSON (``NaN``, or deeper than the decoder takes), not an object, no
            ``message`` object, or no string ``message.type``.
    """
    check_utf8(body)
    try:
        return Received(_DECODER.decode(body).message)
    except msgspec.ValidationError:
        return _decode_odd(replace_lone_surrogates(body))
    except RecursionError:
        raise NotJSONError(TOO_DEEP) from None
    except msgspec.DecodeError as exc:
        mended = replace_lone_surrogates(body)
        if mended == body:
            raise NotJSONError(str(exc)) from None
        return decode_message(mended)


def _decode_odd(body: bytes) -> Received:
    """Slow path for a message with values of an impossible type: coerce or drop those values, keep the rest."""
    try:
        _ANY_JSON.decode(body)  # "not valid JSON" says more than the type of its first value
        mended, dropped = coerce(body, _Envelope)
        return Received(_DECODER.decode(mended).message, dropped)
    except msgspec.ValidationError as exc:
        reason, _, path = str(exc).partition(" - at ")
        raise InvalidMessageError(
            "Invalid webhook payload",
            details=(Detail(path.strip("`") or "$", reason.replace("`", "")),),
        ) from None
    except RecursionError:
        raise NotJSONError(TOO_DEEP) from None
    except msgspec.DecodeError as exc:
        raise NotJSONError(str(exc)) from None
