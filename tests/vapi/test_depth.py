"""Nesting: 128 levels are taken, more as far as the decoder does, and four million do no harm."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.api.webhook import decode_body
from service.errors import InvalidMessageError
from tests.support.for_each import for_each
from tests.support.message_decoding import NOT_JSON, around, refusal_of


def arrays(levels: int) -> str:
    return "[" * levels + "]" * levels


def objects(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


REPORT = b'{"message":{"type":"end-of-call-report","call":{"id":"c"},%b}}'


def skipped(nested: str) -> tuple[bytes, int]:
    return around(nested), 2


def kept(nested: str) -> tuple[bytes, int]:
    return REPORT % b'"analysis":{"structuredData":%b}' % nested.encode(), 3


def merged(nested: str) -> tuple[bytes, int]:
    metadata = '{"metadata":{"a":HERE},"id":"c","assistantOverrides":{"metadata":{"b":1}}}'
    return b'{"message":{"type":"x","call":%b}}' % metadata.replace("HERE", nested).encode(), 4


def opened(nested: str) -> tuple[bytes, int]:
    return REPORT % b'"artifact":{"structuredOutputs":{"uuid":{"name":"n","result":%b}}}' % nested.encode(), 5


def replied(nested: str) -> tuple[bytes, int]:
    return b'{"message":{"type":"tool-calls","toolCallList":[%b]}}' % nested.encode(), 3


def beside_an_odd_field(nested: str) -> tuple[bytes, int]:
    return around(f'5,"analysis":5,"novel":{nested}'), 2


Place = Callable[[str], tuple[bytes, int]]
PLACES = (skipped, kept, merged, opened, replied, beside_an_odd_field)


@for_each("place", PLACES)
@for_each("nest", [arrays, objects])
def test_128_levels_are_taken_wherever_they_stand(nest: Callable[[int], str], place: Place) -> None:
    _, around_it = place("1")
    body, _ = place(nest(128 - around_it))
    decode_body(body)


@pytest.mark.parametrize("place", PLACES)
def test_beyond_them_a_body_is_taken_or_refused_and_never_breaks_anything(place: Place) -> None:
    for levels in range(129, 1100, 7):
        body, _ = place(arrays(levels))
        try:
            decode_body(body)
        except InvalidMessageError as exc:
            assert str(exc) == NOT_JSON


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 4_000_000,
        b'{"a":' * 4_000_000,
        around("[" * 4_000_000),
        around(arrays(4_000_000)),
        around(arrays(4_000_000), "analysis"),
        around(arrays(4_000_000), "transcript"),
        around('"a\\\\",' + arrays(4_000_000)),
    ],
    ids=["arrays", "objects", "unclosed", "skipped", "odd", "kept", "after-a-string-that-ends-in-a-backslash"],
)
def test_four_million_levels_are_not_json(body: bytes) -> None:
    assert str(refusal_of(body)) == NOT_JSON


@pytest.mark.parametrize("text", ["[" * 100_000, "{[" * 5000, '\\"[{' * 5000, "\\\\" + "[" * 5000, '[\\\\\\"' * 5000])
def test_brackets_inside_a_string_are_no_levels(text: str) -> None:
    assert refusal_of(around(f'"{text}"')) is None


def test_many_values_side_by_side_are_no_levels() -> None:
    assert refusal_of(around("[" + ",".join(["[{}]"] * 20_000) + "]")) is None


@pytest.mark.parametrize("body", [b"]" * 2000 + b"[" * 2500, b'"' + b"[" * 2000, b"\\" + b"[" * 2000])
def test_brackets_in_what_is_no_json_at_all_are_refused_like_the_rest(body: bytes) -> None:
    assert str(refusal_of(body)) == NOT_JSON


@for_each("frames", [0, 100, 300])
@for_each("place", PLACES)
def test_levels_that_are_too_many_for_the_stack_are_not_json_either(place: Place, frames: int) -> None:
    def beneath(more: int) -> str | None:
        if more:
            return beneath(more - 1)
        refused = refusal_of(place(arrays(890))[0])
        return None if refused is None else str(refused)

    assert beneath(frames) in {None, NOT_JSON}
