"""What a report says of the finished call. Pure.

Real messages carry results at ``message.artifact.*``, ``message.analysis.*`` and ``message.*``; hand-made ones, as in
the original design's curl, inside ``message.call.*``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.facts import Facts
from service.vapi.assistant import StructuredCallData
from service.vapi.messages import Analysis, Artifact, Call, Results, ServerMessage
from service.vapi.salvage import Salvage, Text

STRUCTURED_FIELDS: Final = frozenset(StructuredCallData.__struct_fields__)
ENOUGH_STRUCTURED_FIELDS: Final = len(STRUCTURED_FIELDS) // 2
"""VAPI's model leaves keys out; a structured output with half of ours is ours, one with "notes" by chance is not."""

_ANALYSIS: Final = Analysis()
_ARTIFACT: Final = Artifact()
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


class _Mono(Struct):
    combinedUrl: Text = None  # noqa: N815


class _Recording(Struct):
    mono: _Mono | None = None
    stereoUrl: Text = None  # noqa: N815


class _Output(Struct):
    name: Text = None
    result: Raw = Raw(b"null")


_RECORDING: Final = msgspec.json.Decoder(_Recording)
_OUTPUT: Final = msgspec.json.Decoder(_Output)
_OUTPUTS: Final = msgspec.json.Decoder(dict[str, _Output])


def add_results(facts: Facts, message: ServerMessage, call: Call, fields: Salvage) -> None:
    artifact, call_artifact = message.artifact or _ARTIFACT, call.artifact or _ARTIFACT
    analysis, call_analysis = message.analysis or _ANALYSIS, call.analysis or _ANALYSIS
    facts.started_at = _raw(fields.time(message.startedAt, call.startedAt))
    facts.ended_at = _raw(fields.time(message.endedAt, call.endedAt))
    facts.duration_minutes = _duration(message, fields)
    if facts.duration_minutes is None:
        facts.duration_minutes = _duration(call, fields)
    facts.recording_url = _recording(artifact, message, fields) or _recording(call_artifact, call, fields)
    summary = fields.text(analysis.summary, message.summary, call_analysis.summary, call.summary)
    facts.analysis_summary = _raw(summary)
    evaluation = fields.text(analysis.successEvaluation, call_analysis.successEvaluation)
    facts.analysis_success_evaluation = _raw(evaluation)
    facts.cost = _raw(fields.number(message.cost) or _cost_of_call(call, fields))
    facts.transcript = fields.text(artifact.transcript, message.transcript, call_artifact.transcript, call.transcript)
    facts.messages = fields.array(artifact.messages, message.messages, call_artifact.messages, call.messages)
    outputs = _outputs(fields.object(artifact.structuredOutputs, call_artifact.structuredOutputs), fields)
    structured_data = fields.anything(analysis.structuredData, call_analysis.structuredData)
    facts.analysis_structured_data = structured_data or _find_structured_data(outputs)
    if outputs:
        facts.structured_outputs = msgspec.json.encode(outputs)


def _raw(fragment: bytes) -> Raw | None:
    return Raw(fragment) if fragment else None


def _duration(report: Results, fields: Salvage) -> float | None:
    """Minutes with 2 decimals, from whichever of the three durations is there first."""
    if number := fields.number(report.durationSeconds):
        return round(float(number) / 60, 2)
    if number := fields.number(report.durationMs):
        return round(float(number) / 60_000, 2)
    number = fields.number(report.durationMinutes)
    return round(float(number), 2) if number else None


def _cost_of_call(call: Call, fields: Salvage) -> bytes:
    """A hand-made report's cost; in real ones the snapshot's is 0 for ever, which says nothing."""
    cost = fields.number(call.cost)
    return cost if cost and float(cost) != 0 else b""


def _recording(artifact: Artifact, report: Results, fields: Salvage) -> Text:
    return (
        fields.url(artifact.recordingUrl)
        or _recording_of_files(bytes(artifact.recording), artifact, fields)
        or fields.url(report.recordingUrl, report.stereoRecordingUrl)
    )


def _recording_of_files(recording: bytes, artifact: Artifact, fields: Salvage) -> Text:
    """From the several files of a recording, of which the plainest is the best."""
    files = _Recording()
    if recording[:1] == b"{":
        files = fields.decode(recording, _RECORDING)
    elif address := fields.text(Raw(recording)):
        files.mono = _Mono(msgspec.json.decode(address))
    combined = files.mono.combinedUrl if files.mono is not None else None
    return fields.url(combined, artifact.stereoRecordingUrl, files.stereoUrl)


def _outputs(text: bytes, fields: Salvage) -> dict[str, Raw]:
    """``{name: result}`` from ``{uuid: {"name": ..., "result": ...}}``; the uuid serves where there is no name."""
    if not text:
        return {}
    try:
        given = _OUTPUTS.decode(text)
    except msgspec.ValidationError:
        values = {uuid: bytes(value) for uuid, value in _OBJECT.decode(text).items()}
        given = {uuid: fields.decode(value, _OUTPUT) for uuid, value in values.items() if value[:1] == b"{"}
        fields.dropped += len(values) - len(given)
    return {output.name or uuid: output.result for uuid, output in given.items()}


def _find_structured_data(outputs: dict[str, Raw]) -> bytes:
    """The output that has the fields of our own schema, when the analysis itself came without structured data."""
    best, most = b"", ENOUGH_STRUCTURED_FIELDS - 1
    for result in outputs.values():
        text = bytes(result)
        if text[:1] == b"{" and (shared := len(STRUCTURED_FIELDS & _OBJECT.decode(text).keys())) > most:
            best, most = text, shared
    return best
