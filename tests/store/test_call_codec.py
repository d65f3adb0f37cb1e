"""The layout of stored and spooled facts, which replicas of another version read and write as well."""

from __future__ import annotations

import re
from importlib.resources import files

from service.calls.call_record import CallRecord
from service.calls.facts import LARGE_FACTS
from service.store.call_codec import FIRST_FACTS, LATER_FACTS, STAMP_DIGITS

FIRST_LAYOUT = (
    "customer_phone", "ended_reason", "assistant_id", "phone_number_id", "started_at", "ended_at", "duration_minutes",
    "recording_url", "analysis_summary", "analysis_success_evaluation", "provider_name", "provider_phone",
    "service_type", "location", "user_criteria", "urgency", "service_request_id", "cost", "metadata",
)  # fmt: skip
TAKE_FACTS = files("service.store.lua").joinpath("take_facts.lua").read_text()
NAMED_FACTS = ("ended_reason", "recording_url", "customer_spoke", "recording_enabled", "outputs_awaited")


def numbers_named_in(script: str) -> dict[str, int]:
    """The constants of lines such as ``local FIRST, SECOND = 1, 2  -- a comment``."""
    lines = re.findall(r"^local ([A-Z_]+(?:, [A-Z_]+)*) = (\d+(?:, \d+)*)\s*(?:--.*)?$", script, re.MULTILINE)
    return {
        name: int(number)
        for names, numbers in lines
        for name, number in zip(names.split(", "), numbers.split(", "), strict=True)
    }


def test_the_order_of_stored_facts_never_changes_and_new_ones_come_last() -> None:
    assert FIRST_FACTS == FIRST_LAYOUT
    assert LATER_FACTS[:5] == (
        "customer_spoke",
        "call_type",
        "forwarded_to",
        "recording_enabled",
        "outputs_awaited",
    )
    assert LARGE_FACTS[:4] == ("transcript", "messages", "analysis_structured_data", "structured_outputs")


def test_the_script_that_takes_facts_knows_their_places() -> None:
    places = {name: place for facts in (FIRST_FACTS, LATER_FACTS) for place, name in enumerate(facts, 1)}
    named = numbers_named_in(TAKE_FACTS)
    wrong = [
        f"{name.upper()} is {named.get(name.upper())} there, but the place of {name} is {places[name]}"
        for name in NAMED_FACTS
        if named.get(name.upper()) != places[name]
    ]
    assert not wrong, f"take_facts.lua differs from the order of Facts: {'; '.join(wrong)}"
    assert named["STAMP_DIGITS"] == STAMP_DIGITS
    assert f"local BLANK = '{'0' * STAMP_DIGITS}'" in TAKE_FACTS


def test_the_script_that_takes_facts_knows_which_later_ones_the_record_does_not_show() -> None:
    (table,) = re.findall(r"^local NOT_SHOWN = \{(.*)\}$", TAKE_FACTS, re.MULTILINE)
    listed = {name.lower() for name in re.findall(r"\[([A-Z_]+)\] = true", table)}
    assert listed == set(LATER_FACTS) - set(CallRecord.__struct_fields__), "NOT_SHOWN in take_facts.lua is wrong"
