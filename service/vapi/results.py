"""Reads a finished call's results from a report. Pure.

Real reports have results at ``message.artifact.*``, ``message.analysis.*`` and ``message.*``. Hand-made ones, as in the
original design's curl, have them inside ``message.call.*``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.facts import Facts
from service.calls.phone import normalize_phone
from service.vapi.coercion import ABSENT, FieldReader, Text, first_not_blank, is_empty, json_text
from service.vapi.messages import Analysis, Artifact, ArtifactPlan, Call, Results, ServerMessage
from service.vapi.speech import customer_spoke, transcript_of

_ANALYSIS: Final = Analysis()
_ARTIFACT: Final = Artifact()
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_NULL: Final = Raw(b"null")


class _Mono(Struct):
    combinedUrl: Text = None  # noqa: N815


class _Recording(Struct):
    mono: _Mono | None = None
    stereoUrl: Text = None  # noqa: N815


class _Output(Struct):
    name: Text = None
    result: Raw = _NULL


class _Destination(Struct):
    number: Text = None
    sipUri: Text = None  # noqa: N815


_RECORDING: Final = msgspec.json.Decoder(_Recording)
_OUTPUT: Final = msgspec.json.Decoder(_Output)
_OUTPUTS: Final = msgspec.json.Decoder(dict[str, _Output])
_DESTINATION: Final = msgspec.json.Decoder(_Destination)


def add_results(
    facts: Facts, message: ServerMessage, call: Call, plans: list[ArtifactPlan], fields: FieldReader
) -> None:
    artifact, call_artifact = message.artifact or _ARTIFACT, call.artifact or _ARTIFACT
    analysis, call_analysis = message.analysis or _ANALYSIS, call.analysis or _ANALYSIS
    if started_at := fields.time(message.startedAt, call.startedAt):
        facts.started_at = started_at
    if ended_at := fields.time(message.endedAt, call.endedAt):
        facts.ended_at = ended_at
    if duration := _duration(message, fields) or _duration(call, fields):
        facts.duration_minutes = duration
    if recording_url := _recording(artifact, message, fields) or _recording(call_artifact, call, fields):
        facts.recording_url = json_text(recording_url)
    if summary := fields.text(analysis.summary, message.summary, call_analysis.summary, call.summary):
        facts.analysis_summary = summary
    if evaluation := fields.text(
        analysis.successEvaluation, message.successEvaluation, call_analysis.successEvaluation, call.successEvaluation
    ):
        facts.analysis_success_evaluation = evaluation
    if cost := _cost(message, fields) or _cost_of_snapshot(call, fields):
        facts.cost = cost
    if structured_data := fields.anything(
        analysis.structuredData, message.structuredData, call_analysis.structuredData, call.structuredData
    ):
        facts.analysis_structured_data = structured_data
    if outputs := _outputs(fields.object(artifact.structuredOutputs, call_artifact.structuredOutputs), fields):
        facts.structured_outputs = json_text(outputs)
    if destination := fields.object(message.destination, call.destination):
        _add_forwarding(facts, destination, fields)
    _add_what_was_said(facts, (artifact, message, call_artifact, call), plans, fields)


def _add_what_was_said(
    facts: Facts, places: tuple[Artifact | Results, ...], plans: list[ArtifactPlan], fields: FieldReader
) -> None:
    messages = fields.array(*[place.messages for place in places])
    if messages:
        facts.messages = messages
    said = b""
    for place in places:
        if place.transcript is ABSENT:
            continue
        text = _transcript_as_text(bytes(place.transcript))
        if transcript := fields.text(text):
            facts.transcript = said = transcript
            break
        # A blank transcript counts as empty but shows that nobody spoke; "" and [] show nothing.
        if not said and text[:1] == b'"' and text != b'""':
            said = text
    spoke = customer_spoke(messages, said, plans)
    if spoke is not None:
        facts.customer_spoke = json_text(spoke)


def _transcript_as_text(transcript: bytes) -> bytes:
    """Converts a list of ``{role, message|content}`` to lines of text; returns anything else unchanged."""
    if transcript[:1] != b"[" or is_empty(transcript):
        return transcript
    text = transcript_of(transcript)
    return transcript if text is None else json_text(text or " ")


def has_duration_or_cost(message: Results, call: Results) -> bool:
    """True when any of a report's durations and costs is above 0, before rounding."""
    reader = FieldReader()  # values of an odd type were counted already
    for report in (message, call):
        total = report.costBreakdown.total if report.costBreakdown is not None else ABSENT
        places = (report.durationSeconds, report.durationMs, report.durationMinutes, report.cost, total)
        if any((number := reader.number(place)) and float(number) > 0 for place in places):
            return True
    return False


def _duration(report: Results, fields: FieldReader) -> bytes:
    """Minutes with 2 decimals, from the first usable of the three durations."""
    for place, per_minute in (
        (report.durationSeconds, 60), (report.durationMs, 60_000), (report.durationMinutes, 1)
    ):  # fmt: skip
        if number := fields.number(place):
            return json_text(round(float(number) / per_minute, 2))
    return b""


def _cost(report: Results, fields: FieldReader) -> bytes:
    breakdown = report.costBreakdown
    return fields.number(report.cost) or (fields.number(breakdown.total) if breakdown is not None else b"")


def _cost_of_snapshot(call: Call, fields: FieldReader) -> bytes:
    """The cost inside ``call``, as in a hand-made report. In real reports it is always 0, which means unknown."""
    cost = _cost(call, fields)
    return cost if cost and float(cost) != 0 else b""


def _add_forwarding(facts: Facts, destination: bytes, fields: FieldReader) -> None:
    """Add the number or SIP address that a call was transferred to. A transfer to an assistant has neither."""
    given = fields.decode(destination, _DESTINATION)
    number = first_not_blank(given.number)
    if to := normalize_phone(number) if number else first_not_blank(given.sipUri):
        facts.forwarded_to = json_text(to)


def _recording(artifact: Artifact, report: Results, fields: FieldReader) -> Text:
    return (
        fields.url(artifact.recordingUrl)
        or _recording_of_files(bytes(artifact.recording), artifact, fields)
        or fields.url(report.recordingUrl, report.stereoRecordingUrl)
    )


def _recording_of_files(recording: bytes, artifact: Artifact, fields: FieldReader) -> Text:
    """The URL of one of a recording's files: the combined mono file if there is one, otherwise a stereo file."""
    files = _Recording()
    if recording[:1] == b"{":
        files = fields.decode(recording, _RECORDING)
    elif address := fields.text(recording):
        files.mono = _Mono(msgspec.json.decode(address))
    combined = files.mono.combinedUrl if files.mono is not None else None
    return fields.url(combined, artifact.stereoRecordingUrl, files.stereoUrl)


def _outputs(text: bytes, fields: FieldReader) -> dict[str, Raw]:
    """``{name: result}`` from ``{uuid: {"name": ..., "result": ...}}``. Without a name, the uuid is the key.

    Of outputs with one name the last that is not empty counts.
    """
    if not text:
        return {}
    try:
        given = _OUTPUTS.decode(text)
    except msgspec.ValidationError:
        values = {uuid: bytes(value) for uuid, value in _OBJECT.decode(text).items()}
        given = {uuid: fields.decode(value, _OUTPUT) for uuid, value in values.items() if value[:1] == b"{"}
        fields.dropped += len(values) - len(given)
    outputs: dict[str, Raw] = {}
    for uuid, output in given.items():
        name = first_not_blank(output.name) or uuid
        if name not in outputs or not is_empty(bytes(output.result)):
            outputs[name] = output.result
    return outputs
