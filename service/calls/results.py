"""What a report says of the finished call, as JSON fragments; empty bytes where it says nothing. Pure.

Real messages carry results at ``message.artifact.*``, ``message.analysis.*`` and ``message.*``; hand-made ones, as in
the original design's curl, inside ``message.call.*``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.status import NO_ANALYSIS_OUTCOMES, outcome_of
from service.vapi.assistant import StructuredCallData
from service.vapi.messages import ABSENT, Analysis, Artifact, Call, Results, ServerMessage
from service.vapi.salvage import Salvage, decoded

STRUCTURED_FIELDS: Final = frozenset(StructuredCallData.__struct_fields__)
ENOUGH_STRUCTURED_FIELDS: Final = len(STRUCTURED_FIELDS) // 2
"""VAPI's model leaves keys out; a structured output with half of ours is ours, one with "notes" by chance is not."""

_ANALYSIS: Final = Analysis()
_ARTIFACT: Final = Artifact()
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


def ended_reason_of(message: ServerMessage, call: Call, fields: Salvage) -> bytes:
    """The reason behind the mark that the store wants: 1 when no analysis can follow such an end, else 0."""
    reason = fields.text(message.endedReason, call.endedReason)
    if not reason:
        return b""
    return (b"1" if outcome_of(decoded(reason)) in NO_ANALYSIS_OUTCOMES else b"0") + reason


class _Mono(Struct):
    combinedUrl: Raw = ABSENT  # noqa: N815


class _Recording(Struct):
    mono: Raw = ABSENT
    stereoUrl: Raw = ABSENT  # noqa: N815


_MONO: Final = msgspec.json.Decoder(_Mono)
_RECORDING: Final = msgspec.json.Decoder(_Recording)


class _Output(Struct):
    name: Raw = ABSENT
    result: Raw = Raw(b"null")


_OUTPUTS: Final = msgspec.json.Decoder(dict[str, _Output])


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
    return (
        fields.url(artifact.recordingUrl)
        or _recording_of_files(bytes(artifact.recording), artifact, fields)
        or fields.url(report.recordingUrl, report.stereoRecordingUrl)
    )


def _recording_of_files(recording: bytes, artifact: Artifact, fields: Salvage) -> bytes:
    """From the several files of a recording, of which the plainest is the best."""
    if recording[:1] != b"{":
        return fields.url(Raw(recording), artifact.stereoRecordingUrl)
    files = _RECORDING.decode(recording)
    mono = fields.object(files.mono)
    combined = _MONO.decode(mono).combinedUrl if mono else ABSENT
    return fields.url(combined, artifact.stereoRecordingUrl, files.stereoUrl)


def _outputs(text: bytes, fields: Salvage) -> dict[str, Raw]:
    """``{name: result}`` from ``{uuid: {"name": ..., "result": ...}}``; the uuid serves where there is no name."""
    if not text:
        return {}
    try:
        given = _OUTPUTS.decode(text)
    except msgspec.ValidationError:
        objects = {uuid: value for uuid, value in _OBJECT.decode(text).items() if bytes(value)[:1] == b"{"}
        fields.dropped += len(_OBJECT.decode(text)) - len(objects)
        given = _OUTPUTS.decode(msgspec.json.encode(objects))
    return {decoded(fields.text(output.name)) or uuid: output.result for uuid, output in given.items()}


def _find_structured_data(outputs: dict[str, Raw]) -> bytes:
    """The output that has the fields of our own schema, when the analysis itself came without structured data."""
    best, most = b"", ENOUGH_STRUCTURED_FIELDS - 1
    for result in outputs.values():
        text = bytes(result)
        if text[:1] == b"{" and (shared := len(STRUCTURED_FIELDS & _OBJECT.decode(text).keys())) > most:
            best, most = text, shared
    return best
