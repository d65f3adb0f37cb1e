"""Whether anything costs more with 1,000,000 records than with 100.

    python -m tests.bench.growth [--quick] [--records 100 10000 1000000]

Fills Redis step by step (filling.py) and measures at each size what polls, webhooks, stats, the list of a phone number
and the sweep cost, and what a record takes in memory. As many records as the machine's memory has room for.
"""

from __future__ import annotations

import socket
import time
from dataclasses import astuple, dataclass, fields, replace
from statistics import median
from typing import Final

from tests.bench import sections
from tests.bench.bed import ADMIN, Bed, bed
from tests.bench.filling import CALLS_PER_PHONE, TTL_S, Filling, call_id
from tests.bench.footprint import footprint_of
from tests.bench.constant_rate import measure_quietly
from tests.bench.load import exchange_over
from tests.bench.peers import TOKEN
from tests.bench.sections import quantile
from tests.bench.workloads import POLL, REPORT, Workload, all_workloads, webhook
from tests.support.vapi_sender import sample

SIZES: Final = (100, 10_000, 1_000_000)
QUICK_SIZES: Final = (100, 2_000, 20_000)
POLLS_PER_S: Final = 1000
ASKED: Final = 200
"""Stats, and lists of one phone number, one after the other."""

SWEEPS_S: Final = 6.0
PHONE: Final = "+18005550100"
"""Of CALLS_PER_PHONE calls, at any number of records."""

HOW_TO_READ: Final = (
    "Every record is that of the 23 kB report. The first 4,000 come by webhook, the others are copies of those made "
    "within Redis, with the index entries that the merge keeps, in an order of their own. Polls are answered from all "
    "over them: their latency at a constant 1,000/s, their CPU and the webhooks' (an update of a stored call) under wrk "
    f"(64 connections). Stats list the 20 newest, the phone number has {CALLS_PER_PHONE} calls at every size. The sweep is what "
    "each process looks for every 1.5 s with a poll parked: Redis's time for all its scripts. Server, and Redis with the "
    "load, have a core each."
)


@dataclass(frozen=True)
class Costs:
    """At one size; milliseconds for latencies, microseconds of processor time a request."""

    poll_p50: float
    poll_p99: float
    poll_cpu: float
    poll_redis: float
    webhook_cpu: float
    webhook_redis: float
    stats_p50: float
    phone_p50: float
    sweep_redis: float


NAMES: Final = {
    "poll_p50": "poll p50, ms",
    "poll_p99": "poll p99, ms",
    "poll_cpu": "poll, CPU us",
    "poll_redis": "poll, Redis CPU us",
    "webhook_cpu": "webhook, CPU us",
    "webhook_redis": "webhook, Redis CPU us",
    "stats_p50": "stats p50, ms",
    "phone_p50": "by phone p50, ms",
    "sweep_redis": "sweep, Redis us",
}


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--records", type=int, nargs="*", default=None)
    chosen = options.parse_args()
    sizes = chosen.records or (QUICK_SIZES if chosen.quick else SIZES)
    costs: dict[int, Costs] = {}
    with bed(redis_options=("--maxclients", "1000"), RESULT_TTL_S=str(TTL_S)) as up:
        filling = Filling(up)
        fill_phone(up)
        for size in sizes:
            filling.grow_to(size)
            costs[filling.size] = measure(up, filling.size, 1 if chosen.quick else 3)
        memory = footprint_of(up, filling)
    columns = ("records", *(f"{size:,}" for size in costs), "last : first", "last : second last")
    parts = [
        sections.head("Growth", HOW_TO_READ),
        sections.table(columns, rows_of(costs)),
        verdict_of(costs, sizes[-1]),
        memory,
    ]
    sections.publish("\n\n".join(parts), is_quick=chosen.quick)


def fill_phone(up: Bed) -> None:
    body = sample("outbound-end-of-call-report-full")
    body["message"]["customer"] = {"number": PHONE}
    body["message"]["call"]["customer"] = {"number": PHONE}
    request = Workload("phone", webhook(body, "bench-phone-@C@"), "bench-phone-@C@")
    with socket.create_connection(("127.0.0.1", up.service.port), timeout=10) as connection:
        for number in range(CALLS_PER_PHONE):
            assert exchange_over(connection, request.request(number)).startswith(b"HTTP/1.1 200")


def measure(up: Bed, size: int, seconds: int) -> Costs:
    workloads = {workload.name: workload for workload in all_workloads()}
    polls = replace(workloads[POLL], calls=size)
    reports = replace(workloads[REPORT], calls=min(size, 100_000), precedes_polls=False)
    polled = up.saturate(polls, seconds)
    posted = up.saturate(reports, seconds)
    times, _ = measure_quietly(
        up.service, up.redis, up.template_of(polls), rate=POLLS_PER_S, seconds=5.0, ring=size, run=900
    )
    assert not times.errors + polled.errors + posted.errors, (times, polled, posted)
    return Costs(
        poll_p50=times.p50,
        poll_p99=times.p99,
        poll_cpu=polled.cpu_us,
        poll_redis=polled.redis_us,
        webhook_cpu=posted.cpu_us,
        webhook_redis=posted.redis_us,
        stats_p50=median_ms(up, "/api/v1/vapi/cache/stats?limit=20", b'"size":'),
        phone_p50=median_ms(up, f"/api/v1/vapi/calls/by-phone/{PHONE}", b'"count":%d,' % CALLS_PER_PHONE),
        sweep_redis=sweep_us(up),
    )


def median_ms(up: Bed, path: str, expected: bytes) -> float:
    """Over one connection, one after the other."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode()
    times = []
    with socket.create_connection(("127.0.0.1", up.service.port), timeout=10) as connection:
        for _ in range(ASKED):
            started = time.perf_counter()
            answer = exchange_over(connection, request)
            times.append(1000 * (time.perf_counter() - started))
            assert expected in answer, answer[:300]
    return median(times)


def sweep_us(up: Bed) -> float:
    """Redis's time for one sweep: all scripts that run while nobody asks for anything and one poll is parked."""
    redis = up.connect()
    with socket.create_connection(("127.0.0.1", up.service.port), timeout=10) as parked:
        head = f"GET /api/v1/vapi/calls/nobody?wait=25 HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        parked.sendall(head.encode())
        time.sleep(2)
        before = redis.info("commandstats")["cmdstat_evalsha"]
        time.sleep(SWEEPS_S)
        after = redis.info("commandstats")["cmdstat_evalsha"]
    scripts = after["calls"] - before["calls"]
    return 32 * (after["usec"] - before["usec"]) / max(1, scripts)


def rows_of(costs: dict[int, Costs]) -> list[list[str]]:
    rows = []
    for field in fields(Costs):
        values = [getattr(each, field.name) for each in costs.values()]
        before_last = values[-2] if len(values) > 1 else values[-1]
        ratios = [f"{values[-1] / values[0]:.2f} x", f"{values[-1] / before_last:.2f} x"]
        cells = [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values]
        rows.append([NAMES[field.name], *cells, *ratios])
    return rows


def verdict_of(costs: dict[int, Costs], wanted: int) -> str:
    """The contract says of poll latency and stats: flat."""
    sizes = list(costs)
    first, last = sizes[-2 if len(sizes) > 1 else 0], sizes[-1]
    pairs = zip(NAMES.values(), astuple(costs[first]), astuple(costs[last]), strict=True)
    ratios = {name: after / before for name, before, after in pairs}
    most = max(ratios, key=lambda name: ratios[name])
    poll, stats = ratios[NAMES["poll_p50"]], ratios[NAMES["stats_p50"]]
    text = (
        f"From {first:,} to {last:,} records polls take {poll:.2f} x the time and stats {stats:.2f} x; what grew most is "
        f"`{most}`: {ratios[most]:.2f} x. Stats read up to 20 ids of each of 32 buckets, of which fewer than 640 records have less."
    )
    return text if last >= wanted else f"{text} The machine's memory had no room for {wanted:,} records."


if __name__ == "__main__":
    main()
