"""Senders that never finish are cut: heads after 10 seconds, bodies after 30, refused ones after 5.

The upper bounds only tell one deadline from another, or from none: a busy machine may look a little late.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.slow_senders import SlowSenders


@pytest.fixture(scope="module")
def slow_senders() -> Iterator[SlowSenders]:
    """All of them dawdle at the same time."""
    senders = SlowSenders()
    yield senders
    senders.close()


@pytest.mark.parametrize(
    "name",
    ["silent", "head", "dribbled head", "head after an answer", "pipelined head", "dribbled line breaks"],
)
def test_a_head_that_is_not_finished_is_cut_after_10_seconds(slow_senders: SlowSenders, name: str) -> None:
    cut_after_s = slow_senders.cut_after_s(name)
    assert cut_after_s is not None
    assert 9 < cut_after_s < 25


@pytest.mark.parametrize("name", ["body", "dribbled body", "dribbled trailer of a body"])
def test_a_body_that_is_not_finished_is_cut_after_30_seconds(slow_senders: SlowSenders, name: str) -> None:
    cut_after_s = slow_senders.cut_after_s(name)
    assert cut_after_s is not None
    assert 28 < cut_after_s < 75


def test_a_sender_whose_body_was_refused_is_cut_after_5_seconds(slow_senders: SlowSenders) -> None:
    cut_after_s = slow_senders.cut_after_s("refused body")
    assert cut_after_s is not None
    assert 4 < cut_after_s < 25
