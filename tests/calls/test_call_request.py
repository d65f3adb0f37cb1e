"""A call request is checked as a whole before anybody is dialled, and what is wrong is said without repeating it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calls.call_request import CallRequest, decode_call_request
from service.errors import InvalidRequestError
from tests.support.call_requests import FULL, OPTIONAL, REQUIRED, call_request
from tests.support.for_each import for_each


def complaints(value: Any) -> dict[str, str]:
    """Path and message of every detail of the refusal."""
    with pytest.raises(InvalidRequestError) as refusal:
        decode_call_request(value)
    assert (refusal.value.status, str(refusal.value)) == (400, "Invalid call request")
    return {detail.path: detail.message for detail in refusal.value.details}


def test_a_request_with_all_fields_is_taken_as_it_is() -> None:
    assert msgspec.to_builtins(decode_call_request(FULL)) == FULL


def test_the_optional_fields_may_be_missing() -> None:
    request = call_request()
    assert msgspec.to_builtins(request) == REQUIRED
    assert (request.client_name, request.custom_prompt, request.provider_id) == (None, None, None)


@for_each("nothing", [None, "", "  \n", "\u200b\x00"])
@for_each("field", OPTIONAL)
def test_an_optional_field_that_says_nothing_counts_as_missing(field: str, nothing: str | None) -> None:
    assert call_request(**{field: nothing}) == call_request()


@pytest.mark.parametrize("field", REQUIRED)
def test_a_required_field_that_is_missing_is_named(field: str) -> None:
    assert complaints({name: value for name, value in REQUIRED.items() if name != field}) == {
        f"$.{field}": "is required"
    }


@for_each("nothing", ["", " \t ", "\u200b", "\ufeff \x00", "\u202e"])
@for_each("field", ["providerName", "serviceNeeded", "userCriteria", "location"])
def test_a_required_text_that_says_nothing_is_refused(field: str, nothing: str) -> None:
    assert complaints(REQUIRED | {field: nothing}) == {f"$.{field}": "must not be empty"}


def test_everything_that_is_wrong_is_named_at_once() -> None:
    wrong = {
        "providerPhone": "864-123-4567",
        "urgency": "now",
        "location": 5,
        "clientName": ["Jane"],
        "customPrompt": {},
    }
    assert list(complaints(REQUIRED | wrong)) == [
        "$.providerPhone",
        "$.location",
        "$.urgency",
        "$.clientName",
        "$.customPrompt",
    ]


@for_each(
    "phone",
    [
        "8641234567",
        "+0864123456",
        "+1 864 123 4567",
        "+1864123456789012",
        "+",
        "+1",
        "tel:+18641234567",
        "+1864１23",
        "+18641234567\n",
        " +18641234567",
        None,
    ],
)
def test_only_a_number_in_e164_may_be_dialled(phone: str | None) -> None:
    assert complaints(REQUIRED | {"providerPhone": phone}).keys() == {"$.providerPhone"}


def test_blanks_around_a_text_are_no_part_of_it() -> None:
    request = call_request(providerName="\tAcme ", providerId="provider-7\n")
    assert (request.provider_name, request.provider_id) == ("Acme", "provider-7")


@pytest.mark.parametrize("urgency", ["immediate", "within_24_hours", "within_2_days", "flexible"])
def test_the_four_urgencies_are_taken(urgency: str) -> None:
    assert call_request(urgency=urgency).urgency == urgency


@pytest.mark.parametrize("urgency", ["Immediate", "flexible ", "", 3, None, ["flexible"], {}])
def test_any_other_urgency_is_answered_with_the_four(urgency: Any) -> None:
    assert complaints(REQUIRED | {"urgency": urgency}) == {
        "$.urgency": "must be one of immediate, within_24_hours, within_2_days, flexible"
    }


@pytest.mark.parametrize(("field", "most"), [("providerName", 200), ("userCriteria", 4000), ("customPrompt", 10_000)])
def test_a_text_that_is_too_long_is_refused(field: str, most: int) -> None:
    decode_call_request(REQUIRED | {field: "x" * most})
    sentence = f"must not be longer than {most} characters"
    assert complaints(REQUIRED | {field: "x" * (most + 1)}) == {f"$.{field}": sentence}


@pytest.mark.parametrize("value", [None, [], "text", 3, [REQUIRED]])
def test_only_an_object_is_a_request(value: Any) -> None:
    assert complaints(value) == {"$": "must be an object"}


def test_unknown_fields_are_ignored() -> None:
    assert call_request(method="vapi", clientPhone="+18640000000") == call_request()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(st.text(), st.none(), st.integers(), st.just(FULL[name]), st.lists(st.text(), max_size=2))
            for name in FULL
        },
    )
)
def test_whatever_comes_is_a_request_or_a_refusal_that_quotes_nothing(value: dict[str, Any]) -> None:
    try:
        request = decode_call_request(value)
    except InvalidRequestError as refusal:
        said = {detail.message for detail in refusal.details}
        assert said
        assert not any(text in said for text in value.values() if isinstance(text, str))
    else:
        assert msgspec.json.decode(msgspec.json.encode(request), type=CallRequest) == request


def test_the_schema_for_callers_says_what_is_checked() -> None:
    schema = json.dumps(msgspec.json.schema(CallRequest))
    assert (
        '"required": ["providerName", "providerPhone", "serviceNeeded", "userCriteria", "location", "urgency"]'
        in schema
    )
