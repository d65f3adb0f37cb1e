"""VAPI's own models find nothing to complain about in the assistant; and they would complain if there were something."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from service.load_config import load_settings
from service.vapi.assistant.config import create_assistant_config, create_saved_assistant_config
from tests.support.call_requests import FULL, call_request
from tests.support.for_each import for_each
from tests.support.vapi_models import complaints_about_assistant, complaints_about_schema

SETTINGS = load_settings({"VAPI_WEBHOOK_URL": "https://calls.example.com/hook", "VAPI_WEBHOOK_SECRET": "s"})
PLACED = create_assistant_config(call_request(**FULL), SETTINGS)


@pytest.mark.parametrize(
    "config",
    [
        PLACED,
        create_saved_assistant_config(SETTINGS),
        create_assistant_config(call_request(), load_settings({})),
        create_saved_assistant_config(load_settings({"ASSISTANT_ANALYSIS": "structured-outputs"})),
    ],
    ids=["placed", "saved", "without-server", "structured-outputs"],
)
def test_vapi_knows_every_key_and_every_word(config: dict[str, Any]) -> None:
    assert complaints_about_assistant(config) == []


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(config: Any) -> None:
        for part in path[:-1]:
            config = config[part]
        config[path[-1]] = to

    return apply


WRONG = {
    "an unknown key": (change("endCallMessages", to="x"), "$.endCallMessages"),
    "an unknown key of a tool": (change("model", "tools", 0, "async", to=True), "$.model.tools[].async"),
    "an unknown key of a hook's tool": (change("hooks", 1, "do", 0, "tool", "x", to=1), "$.hooks[].do[].tool.x"),
    "an unknown key of the schema": (
        change("analysisPlan", "structuredDataPlan", "schema", "anyOf", to=[]),
        "$.analysisPlan.structuredDataPlan.schema.anyOf",
    ),
    "an unknown model": (change("model", "model", to="gpt-99"), "$.model.model"),
    "an unknown provider": (change("model", "provider", to="nobody"), "$.model"),
    "an unknown server message": (change("serverMessages", 0, to="report"), "$.serverMessages[]"),
    "an unknown rubric": (
        change("analysisPlan", "successEvaluationPlan", "rubric", to="Pass"),
        "$.analysisPlan.successEvaluationPlan.rubric",
    ),
    "a text for a number": (change("maxDurationSeconds", to="600"), "$.maxDurationSeconds"),
    "a truth for a number": (change("stopSpeakingPlan", "numWords", to=True), "$.stopSpeakingPlan.numWords"),
    "no list": (change("model", "tools", to={}), "$.model.tools"),
    "no object": (change("monitorPlan", to=[]), "$.monitorPlan"),
    "no free object": (change("metadata", to=[]), "$.metadata"),
    "a missing voice": (change("voice", to={"provider": "vapi"}), "$.voice.voiceId"),
}


@for_each(("break_it", "path"), WRONG.values())
def test_the_models_notice(break_it: Callable[[dict[str, Any]], None], path: str) -> None:
    config = deepcopy(PLACED)
    break_it(config)
    assert next(iter(complaints_about_assistant(config))).startswith(path)


def test_the_models_notice_a_schema_with_references() -> None:
    assert complaints_about_schema({"type": "object", "$defs": {}}) == ["$.$defs: unknown to VAPI"]
    assert complaints_about_schema({"properties": {"a": {"type": "dict"}}}) == [
        "$.type: missing",
        "$.properties.a.type: not one of VAPI's words",
    ]
