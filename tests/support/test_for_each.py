"""A loop over values is as good as a case for each: nothing is left out, and every failing value is named."""

from __future__ import annotations

import inspect

import pytest

from tests.support.for_each import for_each


def test_every_value_is_tried_and_every_failing_one_is_named() -> None:
    tried: list[int] = []

    @for_each("number", range(5))
    def is_even(number: int) -> None:
        tried.append(number)
        assert number % 2 == 0

    with pytest.raises(ExceptionGroup, match="2 of 5 failed") as failed:
        is_even()
    assert tried == [0, 1, 2, 3, 4]
    assert [error.__notes__ for error in failed.value.exceptions] == [["with number = 1"], ["with number = 3"]]


async def test_tests_that_wait_are_looped_too() -> None:
    @for_each(("left", "right"), [(1, 1), (2, 1)])
    async def are_equal(left: int, right: int) -> None:
        assert left == right

    with pytest.raises(ExceptionGroup) as failed:
        await are_equal()
    assert [error.__notes__ for error in failed.value.exceptions] == [["with left = 2, right = 1"]]


def test_two_loops_make_every_pair() -> None:
    pairs: list[tuple[int, str]] = []

    @for_each("number", [1, 2])
    @for_each("letter", "ab")
    def note(number: int, letter: str) -> None:
        pairs.append((number, letter))

    note()
    assert pairs == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_only_the_fixtures_are_left_for_pytest() -> None:
    @for_each("value", [1])
    def test(value: int, fixture: int) -> None: ...

    assert list(inspect.signature(test).parameters) == ["fixture"]


def test_a_loop_over_nothing_fails() -> None:
    @for_each("value", [])
    def test(value: int) -> None: ...

    with pytest.raises(AssertionError, match="no value"):
        test()
