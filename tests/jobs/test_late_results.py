"""Which records lack what VAPI adds after the report."""

from __future__ import annotations

from typing import Any, Final

from service.calls.status import DataStatus
from service.calls.stored_call import TOMBSTONE
from service.jobs.late_refresh import lacks_late_results
from tests.support.call_record import call_with
from tests.support.for_each import for_each

SPOKE: Final[dict[str, Any]] = {"customer_spoke": b"true"}
AWAITS: Final[dict[str, Any]] = SPOKE | {"recording_url": b'"https://a/b.wav"', "outputs_awaited": b"true"}


@for_each(
    ("facts", "lacks"),
    [
        (SPOKE, True),
        ({}, False),
        ({"customer_spoke": b"false"}, False),
        (SPOKE | {"recording_enabled": b"true"}, True),
        (SPOKE | {"recording_enabled": b"false"}, False),
        (SPOKE | {"recording_enabled": b"false", "outputs_awaited": b"true"}, True),
        (SPOKE | {"recording_url": b'"https://a/b.wav"'}, False),
        (AWAITS, True),
        (AWAITS | {"structured_outputs": b'{"CSAT":null}'}, True),
        (AWAITS | {"structured_outputs": b'{"CSAT":8}'}, False),
        (AWAITS | {"outputs_awaited": b"false"}, False),
    ],
)
def test_what_lacks_late_results(facts: dict[str, bytes], *, lacks: bool) -> None:
    assert lacks_late_results(call_with(facts, data_status=DataStatus.COMPLETE)) is lacks
    for status in (DataStatus.PENDING, DataStatus.PARTIAL, DataStatus.FETCH_FAILED):
        assert not lacks_late_results(call_with(facts, data_status=status))


def test_what_is_no_record_lacks_nothing() -> None:
    assert not lacks_late_results(None)
    assert not lacks_late_results(TOMBSTONE)
