"""How long after a webhook's 200 on replica A the first byte of a long poll's answer leaves replica B.

    python -m tests.bench.wake [--quick] [--parked 5000] [--webhooks 500] [--per-second 50]

Starts a redis-server and two replicas, parks that many polls on B, each on a call of its own, then posts one full report
after another to A, at a steady pace and each for a parked call. A time may be negative: the poll's answer then left B
before the webhook's 200 was read from A. Then as many polls as one process's files allow, up to 20,000, for what a parked
poll costs B in memory; and a crowd: 1,000 polls on one call, which one webhook wakes.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from service.server.connections import backlog_of
from tests.bench import sections
from tests.bench.load import exchange, exchange_over
from tests.bench.parker import Parker, call_id, raise_file_limit
from tests.bench.sections import quantile
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.vapi_sender import sample

MANY = 20_000
OWN_FILES = 200
"""Of the service, at most: listening, to Redis, logs, and connections that are not parked polls."""

CLIENTS = 4
CROWD = 1000
MERGES = 1
"""Of the webhook that wakes the crowd."""

POLLS = b"vapi_polls_waiting"
"""The metric that says how many are parked."""

SETTLE_S = 1.0
PARK_S = 60.0

HOW_TO_READ = (
    "Two replicas A and B, one Redis; polls are parked on B, full reports posted to A at a steady pace, each for a parked "
    "call. Delay: from the last byte of the webhook's 200 on A, as read by its sender, to the first byte of the poll's "
    "answer on B; below zero, the answer was there first. Everything, the clients too, shares this machine's cores. The "
    "memory is what B's resident size grew by per parked poll, without the kernel's sockets."
)


@dataclass(frozen=True)
class Beds:
    redis: RedisProcess
    a: Replica
    b: Replica


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--parked", type=int, default=5000)
    options.add_argument("--webhooks", type=int, default=500)
    options.add_argument("--per-second", type=float, default=50)
    chosen = options.parse_args()
    files = raise_file_limit()
    most = min(MANY, files - 2 * backlog_of(files) - OWN_FILES)  # the service keeps that many in reserve
    if chosen.quick:
        chosen.parked, chosen.webhooks, most = 500, 50, 2000
    rows = []
    for parked, webhooks in ((chosen.parked, chosen.webhooks), (most, chosen.webhooks // 2)):
        with beds() as up:
            rows.append(wake_row(up, parked, webhooks, chosen.per_second))
    with beds() as up:
        crowd = wake_crowd(up)
    columns = ("polls parked", "kB each", "webhooks", "p50, ms", "p90", "p99", "worst", "answered", "not 200")
    parts = [sections.head("Waking parked polls", HOW_TO_READ), sections.table(columns, rows)]
    if files < MANY + OWN_FILES:
        parts.append(f"{MANY:,} polls on one worker need more files than the {files:,} that a process may open here.")
    sections.publish("\n\n".join([*parts, crowd]), is_quick=chosen.quick)


@contextmanager
def beds() -> Iterator[Beds]:
    redis = RedisProcess().start()
    a, b = (Replica(redis_url=redis.url, max_wait_s=600, log_level="warning", drain_s=0) for _ in range(2))
    try:
        yield Beds(redis, a.start(), b.start())
    finally:
        a.stop()
        b.stop()
        redis.stop()


@contextmanager
def parked_polls(up: Beds, count: int, *options: str, gauge: bytes = POLLS) -> Iterator[list[Parker]]:
    """Parked by several processes, and really so: B says how many there are."""
    share = -(-count // CLIENTS)
    parkers = [Parker(up.b.port, first, min(share, count - first), *options) for first in range(0, count, share)]
    try:
        for parker in parkers:
            parker.wait_until_parked()
        until_parked(up.b.port, count, gauge)
        yield parkers
    finally:
        for parker in parkers:
            parker.close()


def wake_row(up: Beds, parked: int, webhooks: int, per_second: float, *options: str, gauge: bytes = POLLS) -> list[str]:
    idle_kb = memory_kb(up.b.pid)
    with parked_polls(up, parked, *options, gauge=gauge) as parkers:
        time.sleep(SETTLE_S)
        each_kb = (memory_kb(up.b.pid) - idle_kb) / parked
        acknowledged_at = post_reports(up.a.port, range(0, parked, max(1, parked // webhooks))[:webhooks], per_second)
        time.sleep(SETTLE_S)
        answers = {number: answer for parker in parkers for number, answer in parker.end().items()}
    woken = [number for number in acknowledged_at if number in answers]
    delays = [1000 * (answers[number].moment - acknowledged_at[number]) for number in woken]
    failed = sum(answer.status != 200 for answer in answers.values())
    times = [f"{quantile(delays, percent):.2f}" for percent in (50, 90, 99, 100)]
    counts = [f"{len(woken)} of {len(acknowledged_at)}", str(failed)]
    return [f"{parked:,}", f"{each_kb:.1f}", str(len(acknowledged_at)), *times, *counts]


def post_reports(port: int, numbers: range, per_second: float) -> dict[int, float]:
    """When the 200 of each was read."""
    moments = {}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        began = time.perf_counter()
        for turn, number in enumerate(numbers):
            time.sleep(max(0.0, began + turn / per_second - time.perf_counter()))
            moments[number] = post_report(connection, call_id(number))
    return moments


def post_report(connection: socket.socket, call: str) -> float:
    body = json.dumps(sample("outbound-end-of-call-report-full", call)).encode()
    answer = exchange_over(connection, head("POST", "/api/v1/vapi/webhook", len(body)) + body)
    moment = time.perf_counter()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    return moment


def wake_crowd(up: Beds) -> str:
    """Many polls, one call, one webhook: how often B reads the call, and when the last poll has its answer."""
    redis = Redis(port=up.redis.port)
    with parked_polls(up, CROWD, "--same", "bench-crowd") as parkers:
        time.sleep(SETTLE_S)
        read_before = reads(redis)
        with socket.create_connection(("127.0.0.1", up.a.port), timeout=10) as connection:
            acknowledged_at = post_report(connection, "bench-crowd")
        time.sleep(SETTLE_S)
        read = reads(redis) - read_before - MERGES
        answers = [answer for parker in parkers for answer in parker.end().values()]
    delays = [1000 * (answer.moment - acknowledged_at) for answer in answers]
    assert delays, "no poll was answered"
    return (
        f"A crowd: {CROWD:,} polls on one call, {len(answers):,} answered after one webhook, "
        f"{sum(answer.status != 200 for answer in answers)} of them not with 200; the first after {min(delays):.1f} ms, half "
        f"after {quantile(delays, 50):.1f} ms, the last after {max(delays):.1f} ms. Redis was asked for the record {read} "
        f"time{'s' if read != 1 else ''} for all of them."
    )


def reads(redis: Redis) -> int:
    """HMGETs so far, also those within scripts: each read of a call is one, each merge has one."""
    return redis.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0)


def head(method: str, path: str, length: int = 0) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def until_parked(port: int, wanted: int, gauge: bytes) -> None:
    deadline = time.monotonic() + PARK_S
    parked = 0.0
    while time.monotonic() < deadline:
        text = exchange(port, head("GET", "/metrics"))
        now = next(line for line in text.splitlines() if line.startswith(gauge + b" "))
        parked = float(now.split()[1])
        if parked >= wanted:
            return
        time.sleep(0.2)
    raise TimeoutError(f"only {parked:,.0f} of {wanted:,} are parked; the others were answered at once or not at all")


def memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    main()
