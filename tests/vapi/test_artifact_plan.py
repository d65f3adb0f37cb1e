"""What is read of what VAPI was asked to keep: wherever it stands, in messages and in answers of its API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.vapi.api_call import change_of_api_call
from tests.support.call_record import facts_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import full_report, message, sample, status_update

OUTPUTS: dict[str, Any] = {"structuredOutputs": {"u1": {"name": "CSAT", "result": 8}}}


def asked(**plan: Any) -> dict[str, Any]:
    return {"artifactPlan": plan}


HOLDERS = ("call", "assistantOverrides", "squadOverrides", "workflowOverrides", "assistant", "call.assistant")


def with_plan(holder: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A status update whose call, or one of its assistants, has this plan."""
    body = status_update("in-progress")
    call = body["message"]["call"]
    if holder == "assistant":
        body["message"]["assistant"] = plan
    elif holder == "call":
        call |= plan
    else:
        call[holder.removeprefix("call.")] = plan
    return body


@for_each("holder", HOLDERS)
def test_what_was_asked_for_is_read_wherever_it_stands(holder: str) -> None:
    facts = facts_of(with_plan(holder, asked(recordingEnabled=False, structuredOutputIds=["u1"])))
    assert (facts["recording_enabled"], facts["outputs_awaited"]) == (False, True)
    assert facts_of(with_plan(holder, asked(structuredOutputs=[{"name": "CSAT"}])))["outputs_awaited"] is True
    assert facts_of(with_plan(holder, asked(recordingEnabled=True)))["recording_enabled"] is True


def test_what_is_nearest_to_the_call_counts() -> None:
    body = with_plan("assistant", asked(recordingEnabled=True))
    body["message"]["call"]["assistantOverrides"] = asked(recordingEnabled=False)
    assert facts_of(body)["recording_enabled"] is False
    body["message"]["call"]["assistantOverrides"] = asked(structuredOutputIds=["u1"])
    assert facts_of(body)["recording_enabled"] is True


@for_each("odd", [None, 0, 1, "", "no", [], {}, [False]])
def test_an_odd_switch_says_nothing(odd: object) -> None:
    assert "recording_enabled" not in facts_of(with_plan("assistant", asked(recordingEnabled=odd)))


def test_a_switch_that_came_as_text_counts() -> None:
    assert facts_of(with_plan("assistant", asked(recordingEnabled="false")))["recording_enabled"] is False


def test_a_message_that_shows_no_plan_says_nothing() -> None:
    facts = facts_of(full_report())
    assert facts.keys().isdisjoint({"recording_enabled", "outputs_awaited"})


@pytest.mark.parametrize(
    ("artifact", "awaited"),
    [
        ({}, True),
        ({"structuredOutputs": {}}, True),
        ({"structuredOutputs": {"u1": {"name": "CSAT", "result": None}}}, True),
        (OUTPUTS, False),
        ({"skippedStructuredOutputs": {"u1": {"name": "CSAT"}}}, False),
    ],
)
def test_outputs_are_awaited_until_one_is_here_or_skipped(artifact: dict[str, Any], *, awaited: bool) -> None:
    body = message("end-of-call-report", artifact=artifact, assistant=asked(structuredOutputIds=["u1"]))
    assert facts_of(body)["outputs_awaited"] is awaited


def test_an_answer_of_vapis_api_says_the_same() -> None:
    answer = {
        "id": "call-1",
        "status": "ended",
        "analysis": {"summary": "A"},
        "assistant": asked(recordingEnabled=False),
    }
    answer["assistantOverrides"] = asked(structuredOutputIds=["u1"])
    change = change_of_api_call(msgspec.json.encode(answer), expects_analysis=True)
    assert (change.facts.recording_enabled, change.facts.outputs_awaited) == (b"false", b"true")
    change = change_of_api_call(msgspec.json.encode(answer | {"artifact": OUTPUTS}), expects_analysis=True)
    assert change.facts.outputs_awaited == b"false"


def test_a_real_report_with_outputs_awaits_none() -> None:
    assert facts_of(sample("outbound-end-of-call-report-full"))["outputs_awaited"] is False
