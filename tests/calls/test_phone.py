"""The same number, however written, is the same key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.calls.phone import find_e164_in_sip, is_e164, mask_phone, normalize_phone
from tests.support.for_each import for_each


@for_each(
    "written",
    [
        "+18641234567",
        "+1 (864) 123-4567",
        "+1-864-123-4567",
        "+1.864.123.4567",
        "+1/864/1234567",
        " +1 864 123 4567\t",
        "+1\u00a0864\u00a0123\u00a04567",
        "tel:+1-864-123-4567",
        "sip:+18641234567@198.51.100.7",
        "SIP:+18641234567@198.51.100.7:5060;transport=tcp",
        "sips:+18641234567;user=phone@x.example",
        "sip:+18641234567",
        "sip:+1-864-123-4567@x.example",
    ],
)
def test_however_written_it_is_the_same_number(written: str) -> None:
    assert normalize_phone(written) == "+18641234567"


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("8641234567", "8641234567"),
        ("(864) 123-4567", "8641234567"),
        ("018641234567", "018641234567"),
        ("911", "911"),
        ("1" * 30, "1" * 30),
    ],
)
def test_without_a_plus_the_digits_stay_as_they_are(written: str, number: str) -> None:
    assert normalize_phone(written) == number


@for_each(
    "text",
    [
        *("anonymous", "+", "+0123456789", "+1234567890123456", "++18641234567", "+1864CALLNOW", "sip:desk@x.example"),
        *("\u0661\u0662\u0663", "\uff0b18641234567", "1+8641234567", "sip:", "tel:", "", "user@x.example"),
    ],
)
def test_what_is_no_number_stays_as_it_is(text: str) -> None:
    assert normalize_phone(text) == text


@given(st.text(max_size=40))
@settings(max_examples=500, derandomize=True)
def test_normalizing_again_changes_nothing(text: str) -> None:
    once = normalize_phone(text)
    assert normalize_phone(once) == once


@given(st.from_regex(r"\+[1-9][0-9]{1,14}", fullmatch=True), st.lists(st.integers(2, 12), max_size=4))
@settings(max_examples=200, derandomize=True)
def test_punctuation_anywhere_does_not_matter(number: str, places: list[int]) -> None:
    written = number
    for place in places:
        written = f"{written[:place]} -().{written[place:]}"
    assert normalize_phone(written) == number


@pytest.mark.parametrize(("number", "is_one"), [("+18641234567", True), ("+12", True), ("+123456789012345", True)])
def test_an_e164_number_has_2_to_15_digits(number: str, *, is_one: bool) -> None:
    assert is_e164(number) is is_one


@for_each("number", ["", "+", "+1", "18641234567", "+01234", "+1234567890123456", "+1 864", "+12\n"])
def test_what_is_no_e164_number(number: str) -> None:
    assert not is_e164(number)


@pytest.mark.parametrize(
    ("address", "phone"),
    [
        ("sip:+18645550123@198.51.100.7", "+18645550123"),
        ("sip:desk@198.51.100.7", None),
        ("sip:1001@198.51.100.7", None),
        ("+18645550123", "+18645550123"),
        ("", None),
    ],
)
def test_the_user_of_a_sip_address_counts_if_it_is_e164(address: str, phone: str | None) -> None:
    assert find_e164_in_sip(address) == phone


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+18641234567", "+1864***4567"),
        ("8641234567", "86412***4567"),
        ("864123456", "***"),
        ("911", "***"),
        ("", "***"),
    ],
)
def test_in_logs_the_middle_of_a_number_is_hidden(number: str, masked: str) -> None:
    assert mask_phone(number) == masked
