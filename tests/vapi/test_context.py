"""What every message repeats: ids, phone, metadata, and what the callers attached about the provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.call_record import change_by, facts_of, intake_of, record_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import full_report, message, status_update

PHONE = "+18645550123"


@pytest.mark.parametrize("body", [message("hang"), message("a type of 2027"), status_update("queued"), full_report()])
def test_every_message_gives_context(body: dict[str, Any]) -> None:
    body["message"]["call"] = {
        "id": "c",
        "assistantId": "a-1",
        "phoneNumberId": "p-1",
        "metadata": {"urgency": "flexible"},
    }
    body["message"]["customer"] = {"number": PHONE}
    facts = facts_of(body)
    expected = {"assistant_id": "a-1", "phone_number_id": "p-1", "urgency": "flexible", "customer_phone": PHONE}
    assert facts.items() >= (expected | {"metadata": {"urgency": "flexible"}}).items()


@pytest.mark.parametrize(
    ("fields", "call", "assistant_id"),
    [
        ({}, {"assistantId": "a-1", "assistant": {"id": "a-3"}}, "a-1"),
        ({"assistant": {"id": "a-2"}}, {"assistantId": "a-1"}, "a-1"),
        ({"assistant": {"id": "a-2"}}, {"assistantId": None, "assistant": {"id": "a-3"}}, "a-2"),
        ({"assistant": {"name": "x"}}, {"assistant": {"id": "a-3"}}, "a-3"),
        ({"assistant": None}, {"assistantId": 7}, "7"),
        ({}, {}, None),
    ],
)
def test_the_assistants_id_is_found(fields: dict[str, Any], call: dict[str, Any], assistant_id: str | None) -> None:
    assert facts_of(message("hang", call={"id": "c", **call}, **fields)).get("assistant_id") == assistant_id


@pytest.mark.parametrize(
    ("fields", "call", "phone_number_id"),
    [
        ({"phoneNumber": {"id": "p-2"}}, {"phoneNumberId": "p-1"}, "p-1"),
        ({"phoneNumber": {"id": "p-2"}}, {"phoneNumber": {"id": "p-3"}}, "p-2"),
        ({"phoneNumber": {"id": ""}}, {"phoneNumber": {"id": "p-3"}}, "p-3"),
        ({}, {}, None),
    ],
)
def test_our_numbers_id_is_found(fields: dict[str, Any], call: dict[str, Any], phone_number_id: str | None) -> None:
    assert facts_of(message("hang", call={"id": "c", **call}, **fields)).get("phone_number_id") == phone_number_id


@for_each(
    ("customer", "call_customer", "phone"),
    [
        ({"number": PHONE}, None, PHONE),
        ({"number": "+1 (864) 555-0123"}, None, PHONE),
        ({"number": "8645550123"}, None, "8645550123"),
        ({"number": 18645550123}, None, "18645550123"),
        (None, {"number": PHONE}, PHONE),
        ({"number": None}, {"number": PHONE}, PHONE),
        ({"number": PHONE}, {"number": "+12025550100"}, PHONE),
        ({"number": "8645550123"}, {"number": PHONE}, PHONE),
        ({"number": "anonymous"}, {"number": PHONE}, PHONE),
        ({"number": "anonymous"}, None, "anonymous"),
        ({"number": "anonymous", "sipUri": f"sip:{PHONE}@198.51.100.7"}, None, PHONE),
        ({"sipUri": f"sip:{PHONE}@198.51.100.7"}, None, PHONE),
        ({"number": f"sip:{PHONE}@198.51.100.7"}, None, PHONE),
        (None, {"sipUri": f"sips:{PHONE};user=phone@198.51.100.7:5061"}, PHONE),
        ({"sipUri": "sip:front-desk@example.com"}, None, None),
        ({"sipUri": "sip:front-desk@example.com"}, {"sipUri": f"sip:{PHONE}@x.example"}, PHONE),
        ({"number": "1" * 129}, None, None),
        ({"number": "1" * 129}, {"number": PHONE}, PHONE),
        ({"number": [PHONE]}, {"number": {"e164": PHONE}}, None),
        ({}, {}, None),
        (None, None, None),
    ],
)
def test_the_customers_phone_is_e164_where_possible(
    customer: dict[str, Any] | None, call_customer: dict[str, Any] | None, phone: str | None
) -> None:
    body = message("hang", customer=customer, call={"id": "c", "customer": call_customer})
    assert facts_of(body).get("customer_phone") == phone


@pytest.mark.parametrize("blank", ["\u00a0\u00a0", " " * 40, "\u2003"])
def test_a_blank_number_is_none(blank: str) -> None:
    assert record_of(message("hang", customer={"number": blank}))["customer_phone"] is None


PLACES = ["call.metadata", "assistantOverrides.metadata", "assistant.metadata", "call.assistant.metadata"]


def with_metadata(**places: Any) -> dict[str, Any]:
    """A message with metadata in the named places: call, overrides, squad, workflow, assistant, inline."""
    call: dict[str, Any] = {"id": "c", "metadata": places.get("call")}
    call["assistantOverrides"] = {"metadata": places.get("overrides")}
    call["squadOverrides"] = {"metadata": places.get("squad")}
    call["workflowOverrides"] = {"metadata": places.get("workflow")}
    call["assistant"] = {"metadata": places.get("inline")}
    return message("hang", call=call, assistant={"metadata": places.get("assistant")})


@for_each(
    ("places", "merged"),
    [
        ({}, {}),
        ({"call": {"a": 1}}, {"a": 1}),
        ({"overrides": {"a": 1}}, {"a": 1}),
        ({"assistant": {"a": 1}}, {"a": 1}),
        ({"inline": {"a": 1}}, {"a": 1}),
        ({"squad": {"a": 1}}, {"a": 1}),
        ({"workflow": {"a": 1}}, {"a": 1}),
        ({"squad": {"a": 2}, "workflow": {"a": 3, "b": 3}, "assistant": {"b": 4, "c": 4}}, {"a": 2, "b": 3, "c": 4}),
        ({"call": {"a": 0}, "squad": {"a": 1, "b": 1}}, {"a": 0, "b": 1}),
        (
            {"call": {"a": 1}, "overrides": {"a": 2, "b": 2}, "assistant": {"a": 3, "b": 3, "c": 3}},
            {"a": 1, "b": 2, "c": 3},
        ),
        ({"assistant": {"a": 1}, "inline": {"a": 2, "b": 2}}, {"a": 1, "b": 2}),
        ({"call": {"a": None}, "overrides": {"a": ""}, "assistant": {"a": [3]}}, {"a": [3]}),
        ({"call": {"a": 0}, "overrides": {"a": 2}, "assistant": {"a": 3}}, {"a": 0}),
        ({"call": {"a": False}, "overrides": {"a": 2}}, {"a": False}),
        ({"call": {"a": {}}, "overrides": {"b": 2}}, {"a": {}, "b": 2}),
        ({"call": {"a": {"x": 1}}, "overrides": {"a": {"y": 2}, "b": 1}}, {"a": {"x": 1}, "b": 1}),
        ({"call": "text", "overrides": ["a"], "assistant": {"a": 1}}, {"a": 1}),
        ({"call": {}, "overrides": {}, "assistant": {}}, {}),
        ({"call": {"ü": "é ✓"}, "overrides": {"a b": 'quote"'}}, {"ü": "é ✓", "a b": 'quote"'}),
    ],
)
def test_metadata_is_merged_per_key_over_its_places(places: dict[str, Any], merged: dict[str, Any]) -> None:
    assert record_of(with_metadata(**places))["metadata"] == merged


def test_the_same_metadata_in_all_places_is_kept_once_and_as_it_was_sent() -> None:
    same = {"b": 1, "a": {"z": [1.0, None]}}
    record = record_of(with_metadata(call=same, overrides=same, assistant=same, inline=same))
    assert list(record["metadata"].items()) == list(same.items())


def test_odd_metadata_is_counted() -> None:
    assert intake_of(with_metadata(call="text", overrides=["a"], assistant=5, inline=True)).dropped == 4


def test_variable_values_are_no_metadata() -> None:
    values = {"location": "Greenville", "now": "Sep 1"}
    body = message("hang", call={"id": "c", "assistantOverrides": {"variableValues": values}})
    assert record_of(body)["metadata"] == {}


SPELLINGS = [
    *(("provider_name", key) for key in ("providerName", "provider_name")),
    *(("provider_phone", key) for key in ("providerPhone", "provider_phone")),
    *(("service_type", key) for key in ("serviceType", "service_type", "serviceNeeded", "service_needed")),
    ("location", "location"),
    *(("user_criteria", key) for key in ("userCriteria", "user_criteria")),
    ("urgency", "urgency"),
    *(("service_request_id", key) for key in ("serviceRequestId", "service_request_id")),
]


def with_context(place: str, attached: dict[str, Any]) -> dict[str, Any]:
    """A message with the callers' own words in one of the places where VAPI may hand them back."""
    owner, _, name = place.rpartition(".")
    inner = {name: attached}
    if owner == "call":
        return message("hang", call={"id": "c", **inner})
    if owner == "call.assistant":
        return message("hang", call={"id": "c", "assistant": inner})
    if owner == "assistantOverrides":
        return message("hang", call={"id": "c", "assistantOverrides": inner})
    body = message("hang")
    body["message"][owner] = inner
    return body


VALUES = [
    "assistantOverrides.variableValues",
    "artifact.variableValues",
    "artifact.variables",
    "assistant.variableValues",
]


@for_each("place", [*PLACES, *VALUES])
@for_each(("fact", "key"), SPELLINGS)
def test_the_callers_words_are_found_in_every_place_in_either_spelling(fact: str, key: str, place: str) -> None:
    assert facts_of(with_context(place, {key: "said"})).get(fact) == "said"


def test_a_short_text_is_stored_alike_however_its_sender_escapes_it() -> None:
    """Otherwise a request's id would be no UUID to the archive, and a repetition from another sender would be a change."""
    escaped = (
        rb'{"message":{"type":"hang","call":{"id":"c","assistantId":"a\u002d1","phoneNumberId":"p\/1","type":"\u0078",'
        rb'"metadata":{"providerName":"S\u00f6hne","serviceRequestId":"550e8400\u002de29b-41d4-a716-446655440000"}}}}'
    )
    facts, plain = (
        change_by(body).facts for body in (escaped, json.dumps(json.loads(escaped), ensure_ascii=False).encode())
    )
    assert facts.service_request_id == b'"550e8400-e29b-41d4-a716-446655440000"'
    facts.metadata = plain.metadata
    assert facts == plain


def test_metadata_outweighs_variable_values_and_the_calls_own_the_assistants() -> None:
    sources: list[dict[str, Any]] = [{"location": f"place {number}"} for number in range(7)]
    for first in range(7):
        given = [*([None] * first), *sources[first:]]
        body = message(
            "hang",
            call={
                "id": "c",
                "metadata": given[0],
                "assistantOverrides": {"metadata": given[1], "variableValues": given[3]},
            },
            assistant={"metadata": given[2], "variableValues": given[6]},
            artifact={"variableValues": given[4], "variables": given[5]},
        )
        assert facts_of(body)["location"] == f"place {first}"


def test_each_of_the_callers_words_comes_from_the_best_place_that_has_it() -> None:
    body = with_metadata(
        call={"location": "Greenville", "urgency": ""}, overrides={"urgency": None, "provider_name": "A"}
    )
    body["message"]["artifact"] = {
        "variableValues": {"urgency": "flexible", "location": "elsewhere", "providerName": "B"}
    }
    facts = facts_of(body)
    assert (facts["location"], facts["urgency"], facts["provider_name"]) == ("Greenville", "flexible", "A")


def test_camel_case_outweighs_snake_case_and_the_type_the_need() -> None:
    attached = {"provider_name": "B", "providerName": "A", "serviceNeeded": "need", "service_type": "type"}
    facts = facts_of(with_context("call.metadata", attached))
    assert (facts["provider_name"], facts["service_type"]) == ("A", "type")


@pytest.mark.parametrize(("said", "text"), [(5, "5"), (True, "true"), (1.5, "1.5"), (0, "0"), (False, "false")])
def test_a_word_of_another_type_is_salvaged_as_text(said: object, text: str) -> None:
    assert facts_of(with_context("call.metadata", {"urgency": said}))["urgency"] == text


def test_a_word_that_is_no_scalar_is_dropped_and_the_next_place_serves() -> None:
    body = with_metadata(call={"urgency": ["now"]}, overrides={"urgency": "flexible"})
    assert facts_of(body)["urgency"] == "flexible"
    assert intake_of(body).dropped == 1
