"""Fills Redis with call records: some by webhooks, the rest as copies of those, made within Redis."""

from __future__ import annotations

import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from service.store.keys import Keys, bucket_of
from tests.bench.bed import Bed
from tests.bench.load import exchange_over
from tests.bench.workloads import CALL_ID, REPORT, all_workloads

SOURCES = 4000
"""Records that real webhooks write at most; copies are made of them in turn."""

CALLS_PER_PHONE = 10
AT_ONCE = 400
"""Copies per script: some milliseconds of Redis."""

RESERVED_BYTES = 4 << 30
"""Of the memory available now, what is left to everybody else."""

SCRIPT = Path(__file__).parent / "redis/multiply.lua"
TTL_S = 7200
"""Longer than any of this takes: nothing expires while it is measured."""


def call_id(number: int) -> bytes:
    return CALL_ID.replace("@C@", f"{number:05}").encode()


def phone_of(number: int) -> str:
    """As wrk/load.lua has it of the first 100,000 calls; it never sends reports of the others."""
    return f"+1864555{number % 10_000:04}" if number < 100_000 else f"+1{9_000_000_000 + number // CALLS_PER_PHONE}"


class Filling:
    """The records of one Redis; it only ever grows. At most ``sources`` of them come by webhook."""

    def __init__(self, up: Bed, sources: int = SOURCES) -> None:
        self._sources = sources
        self.size = 0
        self._up = up
        self._redis: Redis = up.connect()
        self._report = next(workload for workload in all_workloads() if workload.name == REPORT)
        self._keys = Keys("vapi")
        self._script = self._redis.script_load(SCRIPT.read_bytes())
        self._empty_bytes = self.used_bytes()
        self.copied = 0

    def used_bytes(self) -> int:
        return int(self._redis.info("memory")["used_memory"])

    def bytes_per_record(self) -> float:
        """All that Redis holds more than when it was empty: keys, indices and its own bookkeeping."""
        return (self.used_bytes() - self._empty_bytes) / self.size

    def grow_to(self, size: int) -> None:
        """Up to ``size`` records, or as many as the memory allows."""
        self._send(range(self.size, min(size, self._sources)))
        if size > self._sources:
            room = (available_bytes() - RESERVED_BYTES) / self.bytes_per_record()
            size = min(size, self.size + max(0, int(room)))
            self._copy(range(self.size, size))

    def _send(self, numbers: range) -> None:
        with socket.create_connection(("127.0.0.1", self._up.service.port), timeout=10) as connection:
            for number in numbers:
                answer = exchange_over(connection, self._report.request(number))
                assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
                self.size += 1

    def _copy(self, numbers: range) -> None:
        """In an order of their own, so that neighbours by number are none in memory."""
        wanted = list(numbers)
        random.Random(self.size).shuffle(wanted)
        for turn, (bucket, some) in enumerate(_by_bucket(wanted)):
            source = call_id(turn % self._sources)
            expiry, updates, *_ = self._keys.indices[bucket]
            prefix = self._keys.call(some[0][0]).removesuffix(some[0][0])
            pairs = [word for pair in some for word in pair]
            keys = (self._keys.call(source), expiry, updates)
            made = self._redis.evalsha(self._script, 3, *keys, prefix, self._keys.phones[bucket], TTL_S * 1000, *pairs)
            self.size += made
            self.copied += made


def _by_bucket(numbers: list[int]) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """(bucket, up to AT_ONCE of its (call id, phone))."""
    waiting: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for number in numbers:
        call = call_id(number)
        bucket = bucket_of(call)
        waiting[bucket].append((call, phone_of(number).encode()))
        if len(waiting[bucket]) == AT_ONCE:
            yield bucket, waiting.pop(bucket)
    yield from waiting.items()


def available_bytes() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) * 1024
