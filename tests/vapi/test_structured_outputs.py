"""Structured outputs by name, and the one with our schema's fields that stands in for missing structured data."""

from __future__ import annotations

from typing import Any

import pytest

from service.calls.structured_outputs import ENOUGH_STRUCTURED_FIELDS, STRUCTURED_FIELDS
from tests.support.call_record import facts_of, intake_of, record_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import message, sample

OURS: dict[str, Any] = dict.fromkeys(sorted(STRUCTURED_FIELDS))


def report(outputs: object, **fields: Any) -> dict[str, Any]:
    return message("end-of-call-report", artifact={"structuredOutputs": outputs}, **fields)


def fewest(count: int) -> dict[str, Any]:
    return dict.fromkeys(sorted(STRUCTURED_FIELDS)[:count], "x")


@for_each(
    ("outputs", "named"),
    [
        ({"u1": {"name": "CSAT", "result": 8}}, {"CSAT": 8}),
        (
            {"u1": {"name": "A", "result": {"x": [None]}}, "u2": {"name": "B", "result": False}},
            {"A": {"x": [None]}, "B": False},
        ),
        ({"u1": {"name": "A", "result": None}}, {"A": None}),
        ({"u1": {"name": "A"}}, {"A": None}),
        ({"u1": {"result": 8}}, {"u1": 8}),
        ({"u1": {"name": "", "result": 8}, "u2": {"name": None, "result": 9}}, {"u1": 8, "u2": 9}),
        ({"u1": {"name": 5, "result": 8}}, {"5": 8}),
        ({"u1": {"name": 'é "✓"', "result": "ü"}}, {'é "✓"': "ü"}),
        ({"u1": {}}, {"u1": None}),
        ({"u1": {"name": "A", "result": 8}, "u2": {"name": "A", "result": None}}, {"A": 8}),
        ({"u1": {"name": "A", "result": " "}, "u2": {"name": "A", "result": False}}, {"A": False}),
        ({"u1": {"name": "A", "result": 8}, "u2": {"name": "A", "result": 9}}, {"A": 9}),
    ],
)
def test_outputs_are_given_by_name(outputs: dict[str, Any], named: dict[str, Any]) -> None:
    assert facts_of(report(outputs))["structured_outputs"] == named


@pytest.mark.parametrize("outputs", [None, {}, [], "", "text", 5, [{"name": "A", "result": 1}]])
def test_without_an_object_of_outputs_there_are_none(outputs: object) -> None:
    assert "structured_outputs" not in facts_of(report(outputs))


@pytest.mark.parametrize("odd", [5, "text", [1], True])
def test_an_odd_output_is_dropped_and_counted_and_the_others_stay(odd: object) -> None:
    body = report({"u1": odd, "u2": {"name": "B", "result": 2}})
    assert facts_of(body)["structured_outputs"] == {"B": 2}
    assert intake_of(body).dropped == 1


def test_an_odd_name_is_counted_and_the_uuid_serves() -> None:
    body = report({"u1": {"name": ["A"], "result": 1}})
    assert facts_of(body)["structured_outputs"] == {"u1": 1}
    assert intake_of(body).dropped == 1


def test_outputs_may_stand_in_the_calls_artifact() -> None:
    call = {"id": "c", "artifact": {"structuredOutputs": {"u": {"name": "A", "result": 1}}}}
    assert facts_of(message("end-of-call-report", call=call))["structured_outputs"] == {"A": 1}
    assert facts_of(report({"u": {"name": "B", "result": 2}}, call=call))["structured_outputs"] == {"B": 2}


def test_the_output_with_our_fields_stands_in_for_missing_structured_data() -> None:
    outputs = {
        "u1": {"name": "Summary", "result": "text"},
        "u2": {"name": "Notes", "result": {"notes": "x", "recommended": True}},
        "u3": {"name": "Ours", "result": OURS},
        "u4": {"name": "CSAT", "result": 8},
    }
    assert record_of(report(outputs))["analysis_structured_data"] == OURS


@pytest.mark.parametrize("missing", [None, {}, [], ""])
def test_empty_structured_data_is_missing_too(missing: object) -> None:
    body = report({"u": {"name": "Ours", "result": OURS}}, analysis={"structuredData": missing})
    assert record_of(body)["analysis_structured_data"] == OURS


@pytest.mark.parametrize("own", [{"other": 1}, [1], "text", 0, False])
def test_the_analysis_own_structured_data_comes_first(own: object) -> None:
    body = report({"u": {"name": "Ours", "result": OURS}}, analysis={"structuredData": own})
    assert record_of(body)["analysis_structured_data"] == own


def test_half_of_our_fields_are_enough_and_less_are_not() -> None:
    enough, too_few = fewest(ENOUGH_STRUCTURED_FIELDS), fewest(ENOUGH_STRUCTURED_FIELDS - 1)
    assert record_of(report({"u": {"name": "A", "result": enough}}))["analysis_structured_data"] == enough
    assert record_of(report({"u": {"name": "A", "result": too_few}}))["analysis_structured_data"] is None


@pytest.mark.parametrize("order", [("most", "more"), ("more", "most")])
def test_of_several_the_one_with_most_of_our_fields_counts(order: tuple[str, str]) -> None:
    results = {"most": OURS, "more": fewest(ENOUGH_STRUCTURED_FIELDS)}
    outputs = {name: {"name": name, "result": results[name]} for name in order}
    assert record_of(report(outputs))["analysis_structured_data"] == OURS


@pytest.mark.parametrize("result", [[OURS], "text", None, 8])
def test_a_result_that_is_no_object_never_stands_in(result: object) -> None:
    assert record_of(report({"u": {"name": "A", "result": result}}))["analysis_structured_data"] is None


def test_the_samples_outputs_alone_give_its_structured_data() -> None:
    body = sample("outbound-end-of-call-report-full")
    expected = body["message"]["analysis"].pop("structuredData")
    assert record_of(body)["analysis_structured_data"] == expected
