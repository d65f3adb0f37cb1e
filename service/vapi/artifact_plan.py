"""Reads what VAPI was asked to keep of a call: its recording and structured outputs. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from service.calls.facts import Facts
from service.vapi.coercion import is_empty
from service.vapi.messages import ArtifactPlan, Call, ServerMessage

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BOOLEANS: Final = {b"true": True, b'"true"': True, b"false": False, b'"false"': False}


def artifact_plans(message: ServerMessage, call: Call) -> list[ArtifactPlan]:
    """The artifact plans of the call, its overrides and its assistants, in order of precedence."""
    overrides = (call.assistantOverrides, call.squadOverrides, call.workflowOverrides)
    holders = [holder for holder in (call, *overrides, message.assistant, call.assistant) if holder is not None]
    return [holder.artifactPlan for holder in holders if holder.artifactPlan is not None]


def add_what_was_asked_for(facts: Facts, plans: list[ArtifactPlan], message: ServerMessage, call: Call) -> None:
    """Add what was asked for to facts that already hold the message's results.

    VAPI records unless told not to. Missing outputs are awaited only if the message shows that they were asked for.
    """
    said = [_BOOLEANS.get(bytes(plan.recordingEnabled)) for plan in plans]
    facts.recording_enabled = next((answer for answer in said if answer is not None), None)
    if has_structured_output(facts.structured_outputs) or _are_outputs_skipped(message, call):
        facts.outputs_awaited = False
    elif any(
        not is_empty(bytes(asked)) for plan in plans for asked in (plan.structuredOutputIds, plan.structuredOutputs)
    ):
        facts.outputs_awaited = True


def has_structured_output(outputs: bytes) -> bool:
    """True when at least one result in ``{name: result}`` is not empty."""
    return bool(outputs) and any(not is_empty(bytes(result)) for result in _OBJECT.decode(outputs).values())


def _are_outputs_skipped(message: ServerMessage, call: Call) -> bool:
    """True when VAPI says that it skipped an output because its conditions did not hold."""
    artifacts = (message.artifact, call.artifact)
    return any(not is_empty(bytes(artifact.skippedStructuredOutputs)) for artifact in artifacts if artifact is not None)
