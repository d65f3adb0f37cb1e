"""What lists by phone number and polls of archived calls take with a million rows in PostgreSQL.

    python -m tests.bench.archive [--quick] [--rows 1000000]

One replica and an empty Redis; the requests come one after the other.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.bench import sections
from tests.bench.bed import redis_server
from tests.support.archives import make_tables
from tests.support.postgres_server import PostgresProcess
from tests.support.replica import Replica

ROWS = 1_000_000
QUICK_ROWS = 10_000
REQUESTS = 500
NUMBERS = 100_000
BUSY = "+18640000000"
"""Has every 50th call."""

HOW_TO_READ = (
    "Milliseconds from a request to its whole answer, over HTTP, one request at a time. Most numbers have ten calls; one "
    "has a fiftieth of all. The rows are small: only their number counts here."
)

FILL = """
INSERT INTO vapi_call_results (call_id, customer_phone, status, data_status, version, created_at, updated_at, ending,
  transcript, messages, fact_stamps)
SELECT 'call-' || n, CASE WHEN n % 50 = 0 THEN '{busy}' ELSE '+1864' || lpad((n % {numbers})::text, 7, '1') END,
  'ended', 'complete', 3, now() - n * interval '7 seconds', now() - n * interval '7 seconds', 3,
  '{{"text": "AI: Hello."}}', '[{{"role": "bot", "message": "Hello."}}]',
  '{{"customer_phone": "90000000000000001", "transcript": "90000000000000001", "messages": "90000000000000001"}}'
FROM generate_series(1, {rows}) AS n;
VACUUM ANALYZE vapi_call_results;
"""


def main() -> None:
    options = sections.options(__doc__)
    options.add_argument("--rows", type=int, default=ROWS)
    chosen = options.parse_args()
    count = QUICK_ROWS if chosen.quick else chosen.rows
    postgres = PostgresProcess(shared_buffers="256MB", max_wal_size="4GB").start()
    try:
        asyncio.run(make_tables(postgres.url_of()))
        for statement in FILL.format(busy=BUSY, numbers=NUMBERS, rows=count).strip().split(";\n"):
            postgres.ask(statement)
        with tempfile.TemporaryDirectory(prefix="bench-") as name, redis_server(Path(name)) as redis:
            replica = Replica(database_url=postgres.url_of(), redis_url=f"redis://127.0.0.1:{redis.port}/0").start()
            try:
                rows = measure(replica, count)
            finally:
                replica.stop()
    finally:
        postgres.remove()
    head = sections.head("Archive", f"{HOW_TO_READ} {count:,} rows, {REQUESTS} requests a line.")
    sections.publish(f"{head}\n\n{sections.table(('request', 'p50 ms', 'p99 ms'), rows)}", is_quick=chosen.quick)


def measure(replica: Replica, rows: int) -> list[list[str]]:
    chance = random.Random(1)
    calls = "/api/v1/vapi/calls/"

    def number() -> str:
        return "+1864" + str(chance.randrange(1, NUMBERS)).rjust(7, "1")

    requests: dict[str, Callable[[], str]] = {
        "a poll of an archived call": lambda: f"{calls}call-{chance.randint(1, rows)}",
        "a page of a number with ten calls": lambda: f"{calls}by-phone/{number()}",
        f"the first page of one with {rows // 50:,}": lambda: f"{calls}by-phone/{BUSY}",
        "its page at offset 10,000": lambda: f"{calls}by-phone/{BUSY}?offset=10000",
    }
    with httpx2.Client(base_url=replica.url, timeout=60, trust_env=False) as client:
        return [[name, *figures(client, path)] for name, path in requests.items()]


def figures(client: httpx2.Client, path: Callable[[], str]) -> list[str]:
    times = []
    for _ in range(REQUESTS):
        asked = path()
        began = time.perf_counter()
        answer = client.get(asked)
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text
    return [f"{sections.quantile(times, percent):.2f}" for percent in (50, 99)]


if __name__ == "__main__":
    main()
