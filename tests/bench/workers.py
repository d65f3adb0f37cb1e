"""What a second worker adds.

    python -m tests.bench.workers [--quick] [--rounds 3] [--seconds 3]

Two replicas on one Redis, one of them with two workers, measured in turn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from tests.bench import load, sections
from tests.bench.bed import redis_server, service
from tests.bench.load import Sample
from tests.bench.servers import CORES
from tests.bench.workloads import POLL, REPORT, all_workloads, write_templates

ALL_CORES = ",".join(map(str, CORES))

HOW_TO_READ = (
    "Both may use every core of this machine, which wrk and Redis share with them: the ratio is the least that a second "
    "worker brings, on a machine with two cores hardly more than what one worker leaves idle. Closed loop, 64 connections, "
    "rounds interleaved. CPU is microseconds of all of the service's processes a request."
)


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=3)
    chosen = options.parse_args()
    if chosen.quick:
        chosen.rounds = chosen.seconds = 1
    samples = measure(chosen.rounds, chosen.seconds)
    columns = (
        "workload",
        "1 worker, requests/s",
        "2 workers",
        "ratio",
        "1 worker, CPU us",
        "2 workers",
        "others, cores",
    )
    text = sections.head("Two workers against one", HOW_TO_READ) + "\n\n" + sections.table(columns, rows_of(samples))
    sections.publish(text, is_quick=chosen.quick)


def measure(rounds: int, seconds: int) -> dict[str, dict[int, list[Sample]]]:
    workloads = [workload for workload in all_workloads() if workload.name in (REPORT, POLL)]
    samples: dict[str, dict[int, list[Sample]]] = {workload.name: {1: [], 2: []} for workload in workloads}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, redis_server(Path(name)) as redis:
        folder = Path(name)
        templates = write_templates(workloads, folder)
        one, two = folder / "one", folder / "two"
        one.mkdir()
        two.mkdir()
        with service(one, redis, ALL_CORES) as single, service(two, redis, ALL_CORES, {"WORKERS": "2"}) as double:
            for workload in workloads:
                for running in (single, double):
                    load.check(running, workload)
                    load.prime(running, redis, workload, templates[workload.name])
                for _ in range(rounds):
                    for workers, running in ((1, single), (2, double)):
                        sample = load.run_quietly(running, redis, workload, templates[workload.name], seconds)
                        samples[workload.name][workers].append(sample)
    return samples


def rows_of(samples: dict[str, dict[int, list[Sample]]]) -> list[list[str]]:
    rows = []
    for name, by_workers in samples.items():
        assert not any(sample.errors for each in by_workers.values() for sample in each), (name, by_workers)
        rates = {workers: median(sample.per_second for sample in each) for workers, each in by_workers.items()}
        costs = {workers: median(sample.cpu_us for sample in each) for workers, each in by_workers.items()}
        pairs = zip(by_workers[1], by_workers[2], strict=True)
        ratio = median(two.per_second / one.per_second for one, two in pairs)
        others = median(sample.disturbance for each in by_workers.values() for sample in each)
        cells = [f"{rates[1]:,.0f}", f"{rates[2]:,.0f}", f"{ratio:.2f} x", f"{costs[1]:.0f}", f"{costs[2]:.0f}"]
        rows.append([name, *cells, f"{others:.2f}"])
    return rows


if __name__ == "__main__":
    main()
