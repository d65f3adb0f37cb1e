"""How long requests take at a load that does not wait for them.

    python -m tests.bench.open_model [--quick] [--seconds 10]

First what wrk gets out of one worker (closed loop), then half and four fifths of that at a constant rate (generator.py).
"""

from __future__ import annotations

from tests.bench import sections
from tests.bench.bed import Bed, bed
from tests.bench.constant_rate import measure_quietly
from tests.bench.workloads import POLL, REPORT, Workload, all_workloads

SHARES = (0.5, 0.8)

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
        rows = [row for name in (REPORT, POLL) for row in rows_of(up, workloads[name], seconds)]
    text = sections.head("Latency at a constant rate", HOW_TO_READ) + "\n\n" + sections.table(COLUMNS, rows)
    sections.publish(text, is_quick=chosen.quick)


def rows_of(up: Bed, workload: Workload, seconds: float) -> list[list[str]]:
    capacity = up.saturate(workload, 3)
    cells = [f"{capacity.errors}", f"{capacity.busy:.0%}", "-", "-", f"{capacity.disturbance:.2f}"]
    rows = [[f"{workload.name}: capacity", f"{capacity.per_second:,.0f}", *"----", *cells]]
    template = up.template_of(workload)
    for run, share in enumerate(SHARES, start=0):
        rate = capacity.per_second * share
        outcome, cost = measure_quietly(
            up.service, up.redis, template, rate=rate, seconds=seconds, ring=workload.calls, run=900 + 10 * run
        )
        times = [f"{ms:.2f}" for ms in (outcome.p50, outcome.p99, outcome.p99_9, outcome.worst)]
        cores = [f"{cost.server:.0%}", f"{outcome.busy:.0%}", f"{outcome.late_p99:.2f}", f"{cost.others:.2f}"]
        rows.append([f"{workload.name}: {share:.0%}", f"{rate:,.0f}", *times, str(outcome.errors), *cores])
    return rows


if __name__ == "__main__":
    main()
