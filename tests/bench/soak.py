"""Whether anything grows while the service works: memory, open files, connections, keys.

    python -m tests.bench.soak [--quick] [--seconds 600] [--per-second 300]

Mixed traffic (traffic.py) on one replica, with records that live for seconds, so that Redis reaches a steady state too.
A figure a second; the slope is fitted to what follows the warm-up, the first third.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from redis import Redis

from tests.bench import sections
from tests.bench.bed import Bed, bed
from tests.bench.load import exchange
from tests.bench.peers import TOKEN
from tests.bench.traffic import Counts, Traffic

RESULT_TTL_S = 10
PENDING_TTL_S = 15
AFTERWARDS_S = 20.0
"""By then all records have expired and the last abandoned poll has been noticed."""

SCANNED = 1000

HOW_TO_READ = (
    "Webhooks of all the sample messages, plain and unchanged polls, parked polls, some of which are abandoned, deletes, "
    f"lists, stats and nonsense; records live for {RESULT_TTL_S} to {PENDING_TTL_S} s. Sampled each second; the slope is a "
    "least-squares line through all but the first third, and through the last third: memory that only settles has less of "
    "a slope there. The collector of cycles runs seldom, so memory moves in steps: believe ten minutes, not one."
)


@dataclass(frozen=True)
class Snapshot:
    at_s: float
    rss_kb: float
    files: float
    threads: float
    parked: float
    redis_clients: float
    redis_kb: float
    keys: float


NAMES = {
    "rss_kb": "resident memory, kB",
    "files": "open files",
    "threads": "threads",
    "parked": "polls parked",
    "redis_clients": "Redis: clients",
    "redis_kb": "Redis: memory, kB",
    "keys": "Redis: keys",
}


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--per-second", type=float, default=300.0)
    chosen = options.parse_args()
    seconds = 10.0 if chosen.quick else chosen.seconds
    with bed(RESULT_TTL_S=str(RESULT_TTL_S), PENDING_TTL_S=str(PENDING_TTL_S), REPORT_GRACE_S="5") as up:
        snapshots, tally, rest = asyncio.run(soak(up, seconds, chosen.per_second))
        stale = keys_that_stay(up.connect())
        errors = errors_logged(up.folder / "service.log")
    columns = (
        "what", "after warm-up", "at the end", "least", "most", "slope a minute", "in the last third",
        f"{AFTERWARDS_S:.0f} s afterwards",
    )  # fmt: skip
    parts = [
        sections.head("Soak", f"{seconds:.0f} s at {chosen.per_second:.0f} actions a second. {HOW_TO_READ}"),
        sections.table(columns, rows_of(snapshots, rest)),
        summary_of(tally, stale, errors, snapshots),
    ]
    sections.publish("\n\n".join(parts), is_quick=chosen.quick)


async def soak(up: Bed, seconds: float, per_second: float) -> tuple[list[Snapshot], Counts, Snapshot]:
    traffic = Traffic(up.service.port, per_second)
    redis = up.connect()
    working = asyncio.create_task(traffic.run(seconds))
    snapshots: list[Snapshot] = []
    while not working.done() and len(snapshots) < seconds:
        await asyncio.sleep(1)
        snapshots.append(await asyncio.to_thread(take, up, redis))
    await working
    await asyncio.sleep(AFTERWARDS_S)
    return snapshots, traffic.tally, await asyncio.to_thread(take, up, redis)


def take(up: Bed, redis: Redis) -> Snapshot:
    process = Path(f"/proc/{up.service.pid}")
    request = f"GET /metrics HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    metrics = exchange(up.service.port, request.encode())
    parked = next(line for line in metrics.splitlines() if line.startswith(b"vapi_polls_waiting "))
    return Snapshot(
        at_s=time.monotonic(),
        rss_kb=up.service.memory_kb(),
        files=len(os.listdir(process / "fd")),
        threads=len(os.listdir(process / "task")),
        parked=float(parked.split()[1]),
        redis_clients=redis.info("clients")["connected_clients"],
        redis_kb=redis.info("memory")["used_memory"] / 1024,
        keys=redis.dbsize(),
    )


def rows_of(snapshots: list[Snapshot], rest: Snapshot) -> list[list[str]]:
    warm, last = snapshots[len(snapshots) // 3 :], snapshots[-(len(snapshots) // 3) :]
    rows = []
    for name, title in NAMES.items():
        values = [getattr(each, name) for each in warm]
        slopes = [
            slope_a_minute([each.at_s for each in some], [getattr(each, name) for each in some])
            for some in (warm, last)
        ]
        figures = (values[0], values[-1], min(values), max(values))
        cells = [f"{value:,.0f}" for value in figures]
        rows.append([title, *cells, *(f"{slope:+,.1f}" for slope in slopes), f"{getattr(rest, name):,.0f}"])
    return rows


def slope_a_minute(seconds: list[float], values: list[float]) -> float:
    """Of the least-squares line."""
    middle, level = mean(seconds), mean(values)
    spread = sum((at - middle) ** 2 for at in seconds)
    if not spread:
        return 0.0
    return 60 * sum((at - middle) * (value - level) for at, value in zip(seconds, values, strict=True)) / spread


def keys_that_stay(redis: Redis) -> list[str]:
    """Names of keys without an expiry: each would stay for ever."""
    return [key.decode() for key in redis.scan_iter(count=SCANNED) if redis.ttl(key) == -1]


def errors_logged(log: Path) -> int:
    return sum('"level":"error"' in line.replace(": ", ":") for line in log.read_text().splitlines())


def summary_of(tally: Counts, stale: list[str], errors: int, snapshots: list[Snapshot]) -> str:
    done = sum(tally.done.values())
    seconds = snapshots[-1].at_s - snapshots[0].at_s
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in tally.done.most_common())
    surprises = ", ".join(f"{what} ({count})" for what, count in tally.surprises.most_common()) or "none"
    stay = ", ".join(f"`{key}`" for key in stale[:5]) or "none"
    return (
        f"{done:,} actions in {seconds:.0f} s: {kinds}. Answers that nobody should get: {surprises}. Errors logged: "
        f"{errors}. Keys left without an expiry: {stay}."
    )


if __name__ == "__main__":
    main()
