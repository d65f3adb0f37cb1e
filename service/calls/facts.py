"""Which facts a server message states, each as a JSON fragment; empty bytes where it states none. Pure.

Context comes from any message, results only from reports. Real messages carry results at ``message.artifact.*``,
``message.analysis.*`` and ``message.*``; hand-made ones, as in the original design's curl, inside ``message.call.*``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.phone import find_e164_in_sip, is_e164, normalize_phone
from service.calls.status import NO_ANALYSIS_OUTCOMES, outcome_of
from service.vapi.assistant import StructuredCallData
from service.vapi.messages import (
    ABSENT,
    Analysis,
    Artifact,
    Assistant,
    Call,
    Customer,
    PhoneNumber,
    Results,
    ServerMessage,
)
from service.vapi.salvage import Salvage, is_empty

MAX_PHONE_LENGTH: Final = 128
"""A number names an index key; the longest addresses seen have 60 characters."""

STRUCTURED_FIELDS: Final = frozenset(StructuredCallData.__struct_fields__)
ENOUGH_STRUCTURED_FIELDS: Final = len(STRUCTURED_FIELDS) // 2
"""VAPI's model leaves keys out; a structured output with half of ours is ours, one with "notes" by chance is not."""

_ANALYSIS: Final = Analysis()
_ARTIFACT: Final = Artifact()
_ASSISTANT: Final = Assistant()
_CUSTOMER: Final = Customer()
_PHONE_NUMBER: Final = PhoneNumber()


def decoded(fragment: bytes) -> str:
    """The text of a JSON string fragment; empty for the empty fragment."""
    return msgspec.json.decode(fragment, type=str) if fragment else ""


# Context


class ProviderContext(Struct):
    """What we attach to a call when we place it, in either spelling."""

    providerName: Raw = ABSENT  # noqa: N815 - the callers' spelling, here and below
    provider_name: Raw = ABSENT
    providerPhone: Raw = ABSENT  # noqa: N815
    provider_phone: Raw = ABSENT
    serviceType: Raw = ABSENT  # noqa: N815
    service_type: Raw = ABSENT
    serviceNeeded: Raw = ABSENT  # noqa: N815
    service_needed: Raw = ABSENT
    location: Raw = ABSENT
    userCriteria: Raw = ABSENT  # noqa: N815
    user_criteria: Raw = ABSENT
    urgency: Raw = ABSENT
    serviceRequestId: Raw = ABSENT  # noqa: N815
    service_request_id: Raw = ABSENT


_PROVIDER_CONTEXT: Final = msgspec.json.Decoder(ProviderContext)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def context_of(message: ServerMessage, call: Call, fields: Salvage) -> dict[str, bytes]:
    """Ids, phone, metadata and what the callers attached: what every message repeats."""
    overrides = call.assistantOverrides or _ASSISTANT
    assistant, inline = message.assistant or _ASSISTANT, call.assistant or _ASSISTANT
    artifact = message.artifact or _ARTIFACT
    number, call_number = message.phoneNumber or _PHONE_NUMBER, call.phoneNumber or _PHONE_NUMBER
    own = [fields.object(place) for place in (call.metadata, overrides.metadata, assistant.metadata, inline.metadata)]
    facts = {
        "customer_phone": _customer_phone(message.customer or _CUSTOMER, call.customer or _CUSTOMER, fields),
        "assistant_id": fields.text(call.assistantId, assistant.id, inline.id),
        "phone_number_id": fields.text(call.phoneNumberId, number.id, call_number.id),
        "metadata": _merged(own),
    }
    values = (overrides.variableValues, artifact.variableValues, artifact.variables, assistant.variableValues)
    return facts | _provider_context(own, values, fields)


def _customer_phone(customer: Customer, call_customer: Customer, fields: Salvage) -> bytes:
    numbers = [decoded(fields.text(place)) for place in (customer.number, call_customer.number)]
    found = [normalize_phone(number) for number in numbers if number.strip() and len(number) <= MAX_PHONE_LENGTH]
    for phone in found:
        if is_e164(phone):
            return msgspec.json.encode(phone)
    for place in (customer.sipUri, call_customer.sipUri):
        if (address := decoded(fields.text(place))) and (phone_in_sip := find_e164_in_sip(address)):
            return msgspec.json.encode(phone_in_sip)
    return msgspec.json.encode(found[0]) if found else b""


def _merged(objects: list[bytes]) -> bytes:
    """One object out of several, per key from the first that has a value for it."""
    different = [text for text in dict.fromkeys(objects) if text]
    if len(different) < 2:
        return different[0] if different else b""
    merged: dict[str, Raw] = {}
    for text in different:
        for key, value in _OBJECT.decode(text).items():
            if key not in merged or is_empty(bytes(merged[key])):
                merged[key] = value
    return msgspec.json.encode(merged)


def _provider_context(own: list[bytes], values: tuple[Raw, ...], fields: Salvage) -> dict[str, bytes]:
    """The callers' own words about the provider: from metadata first, from the prompt's variables last."""
    facts = dict.fromkeys(
        (
            "provider_name",
            "provider_phone",
            "service_type",
            "location",
            "user_criteria",
            "urgency",
            "service_request_id",
        ),
        b"",
    )
    for text in dict.fromkeys(own):
        if text:
            _fill(facts, text, fields)
    for place in values:
        if all(facts.values()):
            break
        if text := fields.object(place):
            _fill(facts, text, fields)
    return facts


def _fill(facts: dict[str, bytes], text: bytes, fields: Salvage) -> None:
    said = _PROVIDER_CONTEXT.decode(text)
    places = {
        "provider_name": (said.providerName, said.provider_name),
        "provider_phone": (said.providerPhone, said.provider_phone),
        "service_type": (said.serviceType, said.service_type, said.serviceNeeded, said.service_needed),
        "location": (said.location,),
        "user_criteria": (said.userCriteria, said.user_criteria),
        "urgency": (said.urgency,),
        "service_request_id": (said.serviceRequestId, said.service_request_id),
    }
    for name, candidates in places.items():
        if not facts[name]:
            facts[name] = fields.text(*candidates)


# How the call ended


def ended_reason_of(message: ServerMessage, call: Call, fields: Salvage) -> bytes:
    """The reason behind the mark that the store wants: 1 when no analysis can follow such an end, else 0."""
    reason = fields.text(message.endedReason, call.endedReason)
    if not reason:
        return b""
    return (b"1" if outcome_of(decoded(reason)) in NO_ANALYSIS_OUTCOMES else b"0") + reason


# Results


class _Mono(Struct):
    combinedUrl: Raw = ABSENT  # noqa: N815


class _Recording(Struct):
    mono: Raw = ABSENT
    stereoUrl: Raw = ABSENT  # noqa: N815


class _Output(Struct):
    name: Raw = ABSENT
    result: Raw = ABSENT


def results_of(message: ServerMessage, call: Call, fields: Salvage) -> dict[str, bytes]:
    """What a report says of the finished call."""
    artifact, call_artifact = message.artifact or _ARTIFACT, call.artifact or _ARTIFACT
    analysis, call_analysis = message.analysis or _ANALYSIS, call.analysis or _ANALYSIS
    outputs = _outputs(fields.object(artifact.structuredOutputs, call_artifact.structuredOutputs), fields)
    structured_data = fields.anything(analysis.structuredData, call_analysis.structuredData)
    return {
        "started_at": fields.time(message.startedAt, call.startedAt),
        "ended_at": fields.time(message.endedAt, call.endedAt),
        "duration_minutes": _duration(message, fields) or _duration(call, fields),
        "recording_url": _recording(artifact, message, fields) or _recording(call_artifact, call, fields),
        "analysis_summary": fields.text(analysis.summary, message.summary, call_analysis.summary, call.summary),
        "analysis_success_evaluation": fields.text(analysis.successEvaluation, call_analysis.successEvaluation),
        "cost": fields.number(message.cost) or _cost_of_call(call, fields),
        "transcript": fields.text(artifact.transcript, message.transcript, call_artifact.transcript, call.transcript),
        "messages": fields.array(artifact.messages, message.messages, call_artifact.messages, call.messages),
        "analysis_structured_data": structured_data or _find_structured_data(outputs),
        "structured_outputs": msgspec.json.encode(outputs) if outputs else b"",
    }


def _duration(report: Results, fields: Salvage) -> bytes:
    """Minutes with 2 decimals, from whichever of the three durations is there first."""
    for place, per_minute in ((report.durationSeconds, 60), (report.durationMs, 60_000), (report.durationMinutes, 1)):
        if number := fields.number(place):
            return msgspec.json.encode(round(float(number) / per_minute, 2))
    return b""


def _cost_of_call(call: Call, fields: Salvage) -> bytes:
    """A hand-made report's cost; in real ones the snapshot's is 0 for ever, which says nothing."""
    cost = fields.number(call.cost)
    return cost if cost and float(cost) != 0 else b""


def _recording(artifact: Artifact, report: Results, fields: Salvage) -> bytes:
    recording = bytes(artifact.recording)
    files = _Recording()
    if recording[:1] == b"{":
        files, recording = msgspec.json.decode(recording, type=_Recording), b""
    mono = fields.object(files.mono)
    combined = msgspec.json.decode(mono, type=_Mono).combinedUrl if mono else ABSENT
    return fields.url(
        artifact.recordingUrl,
        combined,
        Raw(recording),
        artifact.stereoRecordingUrl,
        files.stereoUrl,
        report.recordingUrl,
        report.stereoRecordingUrl,
    )


def _outputs(text: bytes, fields: Salvage) -> dict[str, Raw]:
    """``{name: result}`` from ``{uuid: {"name": ..., "result": ...}}``; the uuid serves where there is no name."""
    outputs: dict[str, Raw] = {}
    for uuid, value in (_OBJECT.decode(text) if text else {}).items():
        try:
            output = msgspec.json.decode(value, type=_Output)
        except msgspec.ValidationError:
            fields.dropped += 1
            continue
        outputs[decoded(fields.text(output.name)) or uuid] = output.result if bytes(output.result) else Raw(b"null")
    return outputs


def _find_structured_data(outputs: dict[str, Raw]) -> bytes:
    """The output that has the fields of our own schema, when the analysis itself came without structured data."""
    best, most = b"", ENOUGH_STRUCTURED_FIELDS - 1
    for result in outputs.values():
        text = bytes(result)
        if text[:1] == b"{" and (shared := len(STRUCTURED_FIELDS & _OBJECT.decode(text).keys())) > most:
            best, most = text, shared
    return best
