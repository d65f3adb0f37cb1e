"""Runs the whole matrix of faults and prints what came of it: ``python -m tests.outage.chaos``.

Exits with 1 if an acknowledged webhook is missing where none may be, an answer took longer than two seconds, or the
service did not heal.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.faults import ROWS, Outcome, Row, run_row

BROKEN_S = 3.0
SLOWEST_ALLOWED_S = 2.0
FIRST_SUCCESS_ALLOWED_S = 1.25
"""From the mending: Redis runs again, or another server calls itself master. The promise is one second from the moment
when a Sentinel or the Cluster says so, which is a little later."""

HEADER = (
    "| topology | fault | spool | wait for replicas | sent | acknowledged | refused | reset | missing | slowest answer | first success after | all well after |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    print(HEADER, flush=True)
    failures = []
    for row in ROWS:
        outcome = asyncio.run(run_row(row, broken_s=BROKEN_S))
        print(line_of(outcome), flush=True)
        failures += [f"{row.topology}, {row.fault}: {problem}" for problem in problems_of(outcome)]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def line_of(outcome: Outcome) -> str:
    row, ledger = outcome.row, outcome.ledger
    cells = (
        row.topology, row.fault, "yes" if row.has_spool else "no", str(row.wait_replicas), str(ledger.sent),
        str(len(ledger.acknowledged)), str(ledger.refused), str(ledger.broken), missing_of(row, outcome.missing),
        f"{outcome.slowest_s:.2f} s", f"{outcome.first_success_after_s:.2f} s", f"{outcome.well_after_s:.2f} s",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def missing_of(row: Row, missing: int) -> str:
    return f"**{missing}**" if row.promises else f"{missing} (not promised)"


def problems_of(outcome: Outcome) -> list[str]:
    problems = list(outcome.problems)
    if outcome.row.promises and outcome.missing:
        problems.append(f"{outcome.missing} acknowledged webhooks are missing")
    if outcome.slowest_s > SLOWEST_ALLOWED_S:
        problems.append(f"an answer took {outcome.slowest_s:.2f} s")
    if outcome.first_success_after_s > FIRST_SUCCESS_ALLOWED_S:
        problems.append(f"first success only after {outcome.first_success_after_s:.2f} s")
    return problems


if __name__ == "__main__":
    sys.exit(main())
