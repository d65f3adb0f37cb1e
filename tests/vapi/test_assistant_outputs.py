"""The shipped assistant asks for its results as structured outputs, where it is told to."""

from __future__ import annotations

from typing import Any

from service.calls.analysis_schema import SUCCESS_OUTPUT, SUMMARY_OUTPUT, StructuredCallData
from service.load_config import load_settings
from service.vapi.assistant.config import create_saved_assistant_config
from tests.support.call_record import record_of
from tests.support.vapi_models import complaints_about_schema
from tests.support.vapi_sender import message

CONFIG = create_saved_assistant_config(load_settings({"ASSISTANT_ANALYSIS": "structured-outputs"}))
OUTPUTS: dict[str, dict[str, Any]] = {output["name"]: output for output in CONFIG["artifactPlan"]["structuredOutputs"]}


def test_the_analysis_plan_gives_way_to_structured_outputs() -> None:
    assert "analysisPlan" not in CONFIG
    assert CONFIG["artifactPlan"]["recordingEnabled"] is True
    usual = create_saved_assistant_config(load_settings({}))
    assert "structuredOutputs" not in usual["artifactPlan"]
    assert usual["analysisPlan"]["summaryPlan"]["enabled"] is True


def test_each_output_names_itself_and_the_conversation_or_vapi_would_use_its_own_prompts() -> None:
    for name, output in OUTPUTS.items():
        said = "".join(message["content"] for message in output["model"]["messages"])
        assert "{{transcript}}" in said, name
        assert "{{structuredOutput" in said, name
        assert complaints_about_schema(output["schema"]) == [], name
        assert len(name) <= 40, name


def test_a_report_with_these_outputs_fills_the_record_as_an_analysis_would() -> None:
    data = dict.fromkeys(StructuredCallData.__struct_fields__, "x")
    results = {SUMMARY_OUTPUT: "They can come.", SUCCESS_OUTPUT: True, "call_result": data}
    assert results.keys() == OUTPUTS.keys()
    outputs = {f"u{number}": {"name": name, "result": result} for number, (name, result) in enumerate(results.items())}
    record = record_of(message("end-of-call-report", assistant=CONFIG, artifact={"structuredOutputs": outputs}))
    assert record["data_status"] == "complete"
    assert record["analysis_summary"] == "They can come."
    assert record["analysis_success_evaluation"] == "true"
    assert record["analysis_structured_data"] == data
