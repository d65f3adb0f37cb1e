"""Reads what VAPI was asked to keep of a call: its recording and structured outputs. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from service.calls.facts import Facts
from service.vapi.coercion import is_empty
from service.vapi.messages import ArtifactPlan, Assistant, Call, ServerMessage

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BOOLEANS: Final = {b"true": b"true", b'"true"': b"true", b"false": b"false", b'"false"': b"false"}
"""A boolean, maybe in quotes, as JSON."""


def artifact_plans(message: ServerMessage, call: Call, overrides: list[Assistant]) -> list[ArtifactPlan]:
    """The artifact plans of the call, its overrides and its assistants, in order of precedence."""
    holders = (call, *overrides, message.assistant, call.assistant)
    return [plan for holder in holders if holder is not None and (plan := holder.artifactPlan) is not None]


def add_what_was_asked_for(facts: Facts, plans: list[ArtifactPlan], message: ServerMessage, call: Call) -> None:
    """Add what was asked for to facts that already hold the message's results.

    VAPI records unless told not to. Missing outputs are awaited only if the message shows that they were asked for.
    """
    said = [answer for plan in plans if (answer := _BOOLEANS.get(bytes(plan.recordingEnabled)))]
    if said:
        facts.recording_enabled = said[0]
    if _are_outputs_skipped(message, call) or has_structured_output(facts.structured_outputs):
        facts.outputs_awaited = b"false"
    elif any(
        not is_empty(bytes(asked)) for plan in plans for asked in (plan.structuredOutputIds, plan.structuredOutputs)
    ):
        facts.outputs_awaited = b"true"


def has_structured_output(outputs: bytes) -> bool:
    """True when at least one result in ``{name: result}`` is not empty."""
    return bool(outputs) and not all(map(is_empty, map(bytes, _OBJECT.decode(outputs).values())))


def _are_outputs_skipped(message: ServerMessage, call: Call) -> bool:
    """True when VAPI says that it skipped an output because its conditions did not hold."""
    artifacts = [artifact for artifact in (message.artifact, call.artifact) if artifact is not None]
    return not all(map(is_empty, [bytes(artifact.skippedStructuredOutputs) for artifact in artifacts]))
