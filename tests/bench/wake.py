"""How long after a webhook's 200 on replica A the first byte of a long poll's answer leaves replica B.

    python -m tests.bench.wake [--parked 5000] [--webhooks 500] [--per-second 50]

Starts a redis-server and two replicas, parks that many polls on B, each on a call of its own, then posts one full report
after another to A, at a steady pace and each for a parked call. A time may be negative: the poll's answer then left B
before the webhook's 200 was read from A. Also prints what a parked poll costs B in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.vapi_sender import sample

CONNECTING_AT_ONCE = 200


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--parked", type=int, default=5000)
    options.add_argument("--webhooks", type=int, default=500)
    options.add_argument("--per-second", type=float, default=50)
    chosen = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    redis = RedisProcess().start()
    a, b = (Replica(redis_url=redis.url, max_wait_s=600, log_level="warning").start() for _ in range(2))
    try:
        asyncio.run(measure(a, b, chosen.parked, chosen.webhooks, chosen.per_second))
    finally:
        a.stop()
        b.stop()
        redis.stop()


async def measure(a: Replica, b: Replica, parked: int, webhooks: int, per_second: float) -> None:
    idle_kb = memory_kb(b.pid)
    answered_at: dict[int, float] = {}
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    polls = [asyncio.create_task(poll(b.port, number, answered_at, gate)) for number in range(parked)]
    await until_parked(b.port, parked)
    parked_kb = memory_kb(b.pid)
    acknowledged_at: dict[int, float] = {}
    reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
    step = max(1, parked // webhooks)
    for number in range(0, min(parked, step * webhooks), step):
        body = json.dumps(sample("outbound-end-of-call-report-full", call_id(number))).encode()
        writer.write(head("POST", "/api/v1/vapi/webhook", len(body)) + body)
        acknowledged_at[number] = await first_line_at(reader, b"200")
        await rest_of(reader)
        await asyncio.sleep(1 / per_second)
    await asyncio.sleep(1)
    writer.close()
    delays = sorted(1000 * (answered_at[number] - moment) for number, moment in acknowledged_at.items())
    for task in polls:
        task.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    print(f"polls parked on B: {parked}, {(parked_kb - idle_kb) / parked:.1f} kB each")
    print(f"webhooks on A: {len(delays)}, all polls of theirs answered")
    print("from the webhook's 200 on A to the first byte of the poll's answer on B:")
    print("  " + "  ".join(f"p{share:g} {quantile(delays, share):.2f} ms" for share in (50, 90, 99, 100)))


def call_id(number: int) -> str:
    return f"bench-wake-{number}"


def head(method: str, path: str, length: int = 0) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n".encode()


async def poll(port: int, number: int, answered_at: dict[int, float], gate: asyncio.Semaphore) -> None:
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", f"/api/v1/vapi/calls/{call_id(number)}?wait=600&view=summary"))
    answered_at[number] = await first_line_at(reader, b"200")
    writer.close()


async def first_line_at(reader: asyncio.StreamReader, status: bytes) -> float:
    line = await reader.readline()
    moment = time.perf_counter()
    assert line.split(b" ")[1:2] == [status], line
    return moment


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    headers = await reader.readuntil(b"\r\n\r\n")
    length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def until_parked(port: int, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", "/metrics"))
        await reader.readline()
        text = await rest_of(reader)
        writer.close()
        now = next(line for line in text.splitlines() if line.startswith(b"vapi_polls_waiting "))
        if float(now.split()[1]) >= wanted:
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{wanted} polls could not be parked")


def memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def quantile(ordered: list[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


if __name__ == "__main__":
    main()
