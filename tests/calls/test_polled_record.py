"""What a poll is told of a record beside the record itself: how far it is, its version, whether its time is up."""

from __future__ import annotations

import itertools
import json

import pytest

from service.calls.record import View, etag_of, is_past_grace, render_pending
from service.calls.status import DataStatus
from tests.support.call_record import EMPTY, STORED_AT_MS, call_with


def test_a_call_nobody_has_heard_of_is_pending() -> None:
    assert json.loads(render_pending(b"call-1", None)) == {
        "call_id": "call-1",
        "status": None,
        "data_status": "pending",
        "updated_at": None,
    }


def test_a_call_that_is_not_final_tells_how_far_it_is() -> None:
    call = call_with(status=6, data_status=DataStatus.PARTIAL)
    assert json.loads(render_pending(b"call-1", call)) == {
        "call_id": "call-1",
        "status": "ended",
        "data_status": "partial",
        "updated_at": "2026-09-01T12:00:50.000Z",
    }


def test_the_etag_differs_between_views_versions_and_successive_records() -> None:
    """Also between two changes of which a failover lost the first: both have the same version."""
    moments = [STORED_AT_MS, STORED_AT_MS + 1]
    calls = [
        call_with(version=version, created_at_ms=created_at_ms, updated_at_ms=updated_at_ms)
        for version, created_at_ms, updated_at_ms in itertools.product([1, 2, 16, 17], moments, moments)
    ]
    views: list[View] = ["full", "summary"]
    etags = {etag_of(call, view) for call in calls for view in views}
    assert len(etags) == len(calls) * len(views)


def test_the_etag_is_a_quoted_string_that_changes_with_nothing_else() -> None:
    call = call_with({"cost": b"1"}, expires_at_ms=STORED_AT_MS + 9)
    assert etag_of(call, "full") == etag_of(EMPTY, "full")
    assert etag_of(EMPTY, "full")[:1] == etag_of(EMPTY, "full")[-1:] == b'"'


@pytest.mark.parametrize(
    ("data_status", "after_ms", "is_past"),
    [
        (DataStatus.PARTIAL, 59_999, False),
        (DataStatus.PARTIAL, 60_000, True),
        (DataStatus.PARTIAL, -5, False),
        (DataStatus.PENDING, 600_000, False),
        (DataStatus.COMPLETE, 600_000, False),
        (DataStatus.FETCH_FAILED, 600_000, False),
    ],
)
def test_only_a_partial_record_grows_out_of_its_grace(data_status: DataStatus, after_ms: int, *, is_past: bool) -> None:
    call = call_with(data_status=data_status, over_at_ms=STORED_AT_MS)
    assert is_past_grace(call, STORED_AT_MS + after_ms, 60_000) is is_past
