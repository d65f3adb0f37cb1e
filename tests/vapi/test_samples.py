"""The small messages that ``send-webhook`` tries a service with are real ones for the service."""

from __future__ import annotations

import time

import msgspec
import pytest

from service.calls.status import Ending
from service.calls.stored_call import CallChange
from service.cli.samples import SAMPLES, sample_message
from service.vapi.intake import change_of
from service.vapi.messages import decode_message


def change_by(name: str) -> CallChange:
    intake = change_of(decode_message(msgspec.json.encode(sample_message(name, "call-42"))))
    assert intake.dropped == 0
    assert intake.change is not None
    return intake.change


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_concerns_the_call_that_was_named_and_happens_now(name: str) -> None:
    before_ms = int(time.time() * 1000)
    change = change_by(name)
    assert change.call_id == b"call-42"
    assert before_ms - 1 <= change.timestamp_ms <= time.time() * 1000 + 1
    assert change.facts.customer_phone == b'"+18641234567"'


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_of_its_type(name: str) -> None:
    assert sample_message(name, "call-42")["message"]["type"] == name


@pytest.mark.parametrize(
    ("name", "status", "ending"),
    [
        ("end-of-call-report", 6, Ending.FULL_REPORT),
        ("status-update", 4, Ending.NONE),
        ("hang", 2, Ending.NONE),
    ],
)
def test_a_sample_moves_the_call_as_its_name_says(name: str, status: int, ending: Ending) -> None:
    change = change_by(name)
    assert (change.status, change.ending) == (status, ending)
