"""The statuses in order, and which message outweighs which."""

from __future__ import annotations

import pytest

from service.calls.status import DataStatus, Rank, rank_of, status_at

STATUSES = ["scheduled", "queued", "ringing", "in-progress", "forwarding", "ended"]


@pytest.mark.parametrize(("status", "position"), [(status, number) for number, status in enumerate(STATUSES, start=1)])
def test_a_status_has_a_position(status: str, position: int) -> None:
    assert rank_of(status) == position
    assert status_at(position) == status


@pytest.mark.parametrize("status", [None, "", "not-found", "deletion-failed", "ENDED"])
def test_what_is_no_stage_of_a_call_has_position_0(status: str | None) -> None:
    assert rank_of(status) == 0


def test_at_position_0_there_is_no_status() -> None:
    assert status_at(0) is None


def test_reports_weigh_more_than_any_status() -> None:
    statuses = [rank_of(status) for status in STATUSES]
    ranks = [Rank.OTHER_MESSAGE, *statuses, Rank.PRELIMINARY_REPORT, Rank.FULL_REPORT, Rank.FULL_REPORT_WITH_ANALYSIS]
    assert ranks == sorted(set(ranks))


def test_complete_and_fetch_failed_are_final() -> None:
    assert [status.name for status in DataStatus if status.is_final] == ["COMPLETE", "FETCH_FAILED"]
