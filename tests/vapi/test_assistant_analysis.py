"""What VAPI is asked to work out of a call: its schema is the struct's, in words that VAPI knows, and in time."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calls.analysis_schema import StructuredCallData
from service.config import Settings
from service.vapi.assistant.analysis import create_analysis_plan, json_schema_of
from tests.support.for_each import for_each
from tests.support.vapi_models import complaints_about_schema

SCHEMA = json_schema_of(StructuredCallData)
ANSWER: dict[str, Any] = {
    "availability": "available",
    "earliest_availability": "Tomorrow at 2pm",
    "estimated_rate": "$100/hour",
    "single_person_found": True,
    "technician_name": "Bob",
    "all_criteria_met": True,
    "criteria_details": {"licensed": True, "insured": False},
    "disqualified": False,
    "disqualification_reason": "none",
    "call_outcome": "positive",
    "recommended": True,
    "notes": "Friendly",
}
PLANS = ("summaryPlan", "structuredDataPlan", "successEvaluationPlan")


def is_valid(answer: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(answer))


def is_readable(answer: Any) -> bool:
    try:
        msgspec.convert(answer, StructuredCallData)
    except msgspec.ValidationError:
        return False
    return True


def test_the_schema_is_one_that_vapi_knows() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert complaints_about_schema(SCHEMA) == []


def test_the_schema_asks_for_every_field_of_the_struct_and_explains_it() -> None:
    assert tuple(SCHEMA["properties"]) == StructuredCallData.__struct_fields__
    assert all(each["description"] for each in SCHEMA["properties"].values())
    required = {field.name for field in msgspec.structs.fields(StructuredCallData) if field.required}
    assert set(SCHEMA["required"]) == required


def test_choices_stand_in_the_order_in_which_they_were_given() -> None:
    assert SCHEMA["properties"]["availability"]["enum"] == ["available", "unavailable", "callback_requested", "unclear"]
    assert SCHEMA["properties"]["call_outcome"]["enum"][:3] == ["positive", "negative", "neutral"]


def test_a_full_answer_satisfies_schema_and_struct() -> None:
    assert is_valid(ANSWER)
    assert is_readable(ANSWER)


@for_each("field", ANSWER)
def test_schema_and_struct_agree_on_a_missing_field(field: str) -> None:
    answer = {name: value for name, value in ANSWER.items() if name != field}
    assert is_valid(answer) == is_readable(answer) == (field not in SCHEMA["required"])


VALUES = st.one_of(
    st.text(max_size=5),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(st.booleans(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
    st.sampled_from(
        ["available", "unavailable", "callback_requested", "unclear", "positive", "voicemail", "no_answer"]
    ),
)


@given(st.sampled_from(sorted(ANSWER)), VALUES)
def test_schema_and_struct_agree_on_every_value(field: str, value: Any) -> None:
    answer = ANSWER | {field: value}
    assert is_valid(answer) == is_readable(answer)


def test_what_stands_under_free_keys_only_the_description_can_say() -> None:
    answer = ANSWER | {"criteria_details": {"licensed": "yes"}}
    assert is_valid(answer)
    assert not is_readable(answer)
    assert "true" in SCHEMA["properties"]["criteria_details"]["description"]


def test_the_analysis_has_time_but_not_more_than_we_wait_for_the_report() -> None:
    plan = create_analysis_plan(StructuredCallData)
    seconds = [plan[name]["timeoutSeconds"] for name in PLANS]
    assert min(seconds) > 5
    assert sum(seconds) < Settings().report_grace_s


def test_all_three_analyses_are_on_and_a_call_without_talk_gets_none() -> None:
    plan = create_analysis_plan(StructuredCallData)
    assert [plan[name]["enabled"] for name in PLANS] == [True, True, True]
    assert plan["minMessagesThreshold"] == 2
    assert plan["successEvaluationPlan"]["rubric"] == "PassFail"


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("summaryPlan", {"transcript", "endedReason"}),
        ("structuredDataPlan", {"schema", "systemPrompt", "transcript", "endedReason"}),
        ("successEvaluationPlan", {"rubric", "systemPrompt", "transcript", "endedReason"}),
    ],
)
def test_each_analysis_sees_what_it_needs(name: str, variables: set[str]) -> None:
    texts = " ".join(message["content"] for message in create_analysis_plan(StructuredCallData)[name]["messages"])
    assert {variable for variable in (*variables, "messages") if f"{{{{{variable}}}}}" in texts} == variables
