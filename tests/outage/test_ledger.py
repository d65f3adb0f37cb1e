"""A short version of ``make chaos``: nothing acknowledged is missing. How long anybody waits is measured there."""

from __future__ import annotations

import pytest

from tests.support.faults import Row, be_late, hang, kill_and_restart, kill_master, kill_replica, run_row

ROWS = [
    Row("one Redis", "Redis hangs", hang, has_spool=True),
    Row("one Redis", "Redis is slow", be_late, has_spool=True, per_second=200.0, has_proxy=True),
    Row("one Redis", "Redis killed, restarted", kill_and_restart),
    Row("one Redis", "replica killed", kill_replica),
    Row("Sentinel", "master killed", kill_master, wait_replicas=1, has_spool=True, per_second=50.0),
    Row("Cluster", "master killed", kill_master, wait_replicas=1, has_spool=True, per_second=50.0),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.topology}, {row.fault}")
async def test_nothing_acknowledged_is_missing_after(row: Row) -> None:
    outcome = await run_row(row, broken_s=1.5)

    assert outcome.problems == []
    assert outcome.missing == 0
    assert len(outcome.ledger.acknowledged) > 100
