"""What one field gives, whatever type it came in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from service.vapi.coercion import ABSENT, FieldReader, is_empty
from service.vapi.times import MAX_TIMESTAMP_MS, timestamp_ms
from tests.support.for_each import for_each

READERS = ("text", "number", "array", "object", "anything", "time")


def read(reader: str, *values: str) -> tuple[str, int]:
    """What the reader makes of these JSON texts, best first, and how many it dropped."""
    fields = FieldReader()
    places = [Raw(value.encode()) if value else ABSENT for value in values]
    salvage: Callable[..., bytes] = getattr(fields, reader)
    return salvage(*places).decode(), fields.dropped


@for_each("reader", READERS)
@for_each("empty", ["", "null", '""', "[]", "{}", "[ ]", "{\n  }", "[\r\n\t]"])
def test_an_empty_value_is_no_value_and_nothing_odd(reader: str, empty: str) -> None:
    assert read(reader, empty) == ("", 0)


@pytest.mark.parametrize("reader", READERS)
def test_no_place_gives_no_value(reader: str) -> None:
    assert read(reader) == ("", 0)


@pytest.mark.parametrize(
    "empty",
    [pytest.param(f"{brackets[0]}{' ' * 40}{brackets[1]}") for brackets in ("[]", "{}")],
)
def test_much_white_space_in_an_empty_value_is_still_nothing(empty: str) -> None:
    assert is_empty(empty.encode())


def test_text_of_nothing_but_white_space_is_empty_in_any_script() -> None:
    blanks = (
        " ",
        " " * 40,
        "\t",
        "\n",
        "\r\n",
        "\u00a0",
        "\u202f",
        "\u3000",
        "\u2028",
        "\ufeff",
        "\u200b",
        "\u200c\u200d",
        "\u200e\u200f",
        "\u00ad",
        "\u180e",
        "\u2060\u2063",
        "\u202a\u202e\u2066\u2069",
        "\u2800\u3164",
        " \u00a0\n",
    )
    for blank in blanks:
        assert is_empty(json.dumps(blank).encode()), ascii(blank)
        assert is_empty(json.dumps(blank, ensure_ascii=False).encode()), ascii(blank)
    for text in ("a", " a", "\u00a0a", "\\", "\u0000", "é"):
        assert not is_empty(json.dumps(text).encode()), ascii(text)


@for_each("value", ["0", "false", "0.0", '"0"', "[0]", "[null]", '{"a":null}', "[[]]", '"null"'])
def test_zero_and_false_are_values(value: str) -> None:
    assert read("anything", value) == (value, 0)


@for_each(
    ("reader", "values", "found", "dropped"),
    [
        ("text", ('"a"',), '"a"', 0),
        ("text", ("5",), '"5"', 0),
        ("text", ("-1.50e3",), '"-1.50e3"', 0),
        ("text", ("true",), '"true"', 0),
        ("text", ("false",), '"false"', 0),
        ("text", ("null", "", '""', '"b"'), '"b"', 0),
        ("text", ('"a"', '"b"'), '"a"', 0),
        ("text", ('["a"]', '{"b":1}', '"c"'), '"c"', 2),
        ("number", ("0",), "0", 0),
        ("number", ("-1.5E+3",), "-1.5E+3", 0),
        ("number", ('"0.12"',), "0.12", 0),
        ("number", ('" 7 "',), "7.0", 0),
        ("number", ('"1e3"',), "1000.0", 0),
        ("number", ('"\\u0031"',), "1.0", 0),
        ("number", ('"$5"', "true", "[1]", '{"a":1}', "3"), "3", 4),
        ("number", ('"1e400"',), "", 1),
        ("number", ('"' + "9" * 5000 + '"', "2"), "2", 1),
        ("number", ('"nan"', '"inf"', '"0x10"', '"1_000"', '"\u0661"', "4"), "4", 5),
        ("array", ("[1]",), "[1]", 0),
        ("array", ('"[1]"', '{"a":1}', "5", "[2]"), "[2]", 3),
        ("object", ('{"a":1}',), '{"a":1}', 0),
        ("object", ('"{}"', "[1]", "true", '{"b":2}'), '{"b":2}', 3),
        ("anything", ("null", "[]", "false", "1"), "false", 0),
    ],
)
def test_the_first_usable_place_counts(reader: str, values: tuple[str, ...], found: str, dropped: int) -> None:
    assert read(reader, *values) == (found, dropped)


@for_each(
    ("value", "moment"),
    [
        ('"2026-09-01T12:00:45.260Z"', "2026-09-01T12:00:45.260Z"),
        ('"2026-09-01T12:00:45Z"', "2026-09-01T12:00:45Z"),
        ('"2026-09-01T12:00:45.123456Z"', "2026-09-01T12:00:45.123456Z"),
        ('"2026-09-01T14:00:45.260+02:00"', "2026-09-01T12:00:45.260Z"),
        ('"2026-09-01T12:00:45-00:30"', "2026-09-01T12:30:45.000Z"),
        ('"2026-09-01T12:00:45"', "2026-09-01T12:00:45.000Z"),
        ('" 2026-09-01 12:00:45.26 "', "2026-09-01T12:00:45.260Z"),
        ('"2026-09-01"', "2026-09-01T00:00:00.000Z"),
        ('"2026-09-01T12:00:45\\u005a"', "2026-09-01T12:00:45.000Z"),
        ("1788264045260", "2026-09-01T12:00:45.260Z"),
        ("1788264045", "2026-09-01T12:00:45.000Z"),
        ("1788264045.26", "2026-09-01T12:00:45.260Z"),
        ("0", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_is_given_in_utc(value: str, moment: str) -> None:
    assert read("time", value) == (f'"{moment}"', 0)


@for_each(
    "value",
    [
        *('"soon"', '"2026-13-01T00:00:00Z"', '"2026-09-01T25:00:00Z"', '"12:00"', '"0000-01-01T00:00:00Z"', "true"),
        *("1e300", "-1e300", "[1]", '{"a":1}', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"'),
    ],
)
def test_what_is_no_time_is_dropped_and_the_next_place_serves(value: str) -> None:
    assert read("time", value, '"2026-09-01T12:00:00Z"') == ('"2026-09-01T12:00:00Z"', 1)


def test_a_time_in_a_numeric_string_is_salvaged() -> None:
    assert read("time", '"1788264045260"') == ('"2026-09-01T12:00:45.260Z"', 0)


@for_each(
    ("value", "stamp"),
    [
        ("1788264045260", 1788264045260),
        ("1788264045260.9998", 1788264045260),
        ("1.78826404526e12", 1788264045260),
        ('"1788264045260"', 1788264045260),
        ('" 1788264045260.7 "', 1788264045260),
        ('"2026-09-01T12:00:45.260Z"', 1788264045260),
        ('"2026-09-01T12:00:45.260999Z"', 1788264045260),
        ('"2026-09-01T14:00:45.26+02:00"', 1788264045260),
        ('"2026-09-01T12:00:45"', 1788264045000),
        ("0", 0),
        ("0.9", 0),
        ("1", 1),
        (str(MAX_TIMESTAMP_MS - 1), MAX_TIMESTAMP_MS - 1),
        (str(MAX_TIMESTAMP_MS), 0),
        ("9" * 30, 0),
        ("1e300", 0),
        ("-1", 0),
        ('"-1"', 0),
        ('"1969-12-31T23:59:59Z"', 0),
        ('"1e400"', 0),
        ('"nan"', 0),
        ('"yesterday"', 0),
        ("true", 0),
        ("[1]", 0),
        ('{"a":1}', 0),
        ("null", 0),
        ('""', 0),
        ("", 0),
    ],
)
def test_a_timestamp_is_in_whole_milliseconds_or_0(value: str, stamp: int) -> None:
    assert timestamp_ms(Raw(value.encode()) if value else ABSENT) == stamp


def iso_text_of(stamp_ms: int) -> Raw:
    moment = datetime.fromtimestamp(stamp_ms // 1000, UTC)
    return Raw(f'"{moment:%Y-%m-%dT%H:%M:%S}.{stamp_ms % 1000:03}Z"'.encode())


@given(st.integers(min_value=1_577_836_800_000, max_value=2_145_916_800_000))
@settings(max_examples=1000, derandomize=True)
def test_a_timestamp_from_2020_to_2037_is_the_same_as_text_and_as_a_number(stamp_ms: int) -> None:
    assert timestamp_ms(iso_text_of(stamp_ms)) == timestamp_ms(Raw(str(stamp_ms).encode())) == stamp_ms


@pytest.mark.parametrize("stamp_ms", [1001, 2_184_600_886_607])
def test_a_timestamp_of_any_year_is_the_same_as_text_and_as_a_number(stamp_ms: int) -> None:
    assert timestamp_ms(iso_text_of(stamp_ms)) == stamp_ms
