"""How long requests take at a load that does not wait for them.

    python -m tests.bench.open_model [--quick] [--seconds 10]

First what wrk gets out of one worker (closed loop), then shares of that at a constant rate (generator.py).
"""

from __future__ import annotations

from tests.bench import sections
from tests.bench.bed import Bed, bed
from tests.bench.constant_rate import measure_quietly
from tests.bench.workloads import POLL, REPORT, Workload, all_workloads

SHARES = (0.5, 0.6, 0.7, 0.8)
P99_MS = 10.0
GOAL = 0.6
"""Share of the capacity at which p99 stays within P99_MS."""

HOW_TO_READ = (
    "Open model: requests are sent at a constant rate, each measured from the moment it was due, so that a stall is "
    "charged with everything that was due meanwhile. The capacity is what wrk got out of the same worker right before, "
    "over 64 connections. The server has one core; the generator and Redis share another, so what the generator adds is "
    "in the figures: `sent late` is the p99 of how late it was where a connection was free. Above 0.1 cores for `others`, "
    "unrelated processes, the times are doubtful. Milliseconds."
)

COLUMNS = (
    "load", "requests/s", "p50", "p99", "p99.9", "worst", "errors", "core busy", "generator", "sent late", "others",
)  # fmt: skip


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--seconds", type=float, default=10.0)
    chosen = options.parse_args()
    seconds = 2.0 if chosen.quick else chosen.seconds
    workloads = {workload.name: workload for workload in all_workloads()}
    with bed() as up:
        measured = [measure(up, workloads[name], seconds) for name in (REPORT, POLL)]
    rows = [row for found, _ in measured for row in found]
    sentences = " ".join(sentence for _, sentence in measured)
    head = sections.head("Latency at a constant rate", HOW_TO_READ)
    sections.publish(f"{head}\n\n{sentences}\n\n{sections.table(COLUMNS, rows)}", is_quick=chosen.quick)


def measure(up: Bed, workload: Workload, seconds: float) -> tuple[list[list[str]], str]:
    """The rows of one workload, and what they say of the goal."""
    capacity = up.saturate(workload, 3)
    cells = [f"{capacity.errors}", f"{capacity.busy:.0%}", "-", "-", f"{capacity.disturbance:.2f}"]
    rows = [[f"{workload.name}: capacity", f"{capacity.per_second:,.0f}", *"----", *cells]]
    template = up.template_of(workload)
    within = 0.0
    for run, share in enumerate(SHARES, start=0):
        rate = capacity.per_second * share
        outcome, cost = measure_quietly(
            up.service, up.redis, template, rate=rate, seconds=seconds, ring=workload.calls, run=900 + 10 * run
        )
        times = [f"{ms:.2f}" for ms in (outcome.p50, outcome.p99, outcome.p99_9, outcome.worst)]
        cores = [f"{cost.server:.0%}", f"{outcome.busy:.0%}", f"{outcome.late_p99:.2f}", f"{cost.others:.2f}"]
        rows.append([f"{workload.name}: {share:.0%}", f"{rate:,.0f}", *times, str(outcome.errors), *cores])
        if outcome.p99 <= P99_MS and not outcome.errors:
            within = share
    found = f"up to {within:.0%} of the capacity" if within else f"not even at {SHARES[0]:.0%} of the capacity"
    verdict = "met" if within >= GOAL else "**missed**"
    return rows, f"{workload.name}: p99 within {P99_MS:.0f} ms {found} (goal: {GOAL:.0%}, {verdict})."


if __name__ == "__main__":
    main()
