"""The counts of all processes, in Redis: each process writes its own sums once a second, a reader adds them up.

A write replaces the sums, so a repeated write counts nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Mapping
from functools import partial

import msgspec

from service.redis_client.command import Commands
from service.store.keys import COUNTS_BUCKET, COUNTS_TTL_MS, Keys


class Replica(msgspec.Struct, frozen=True):
    """One replica, as its processes last wrote it; times are epoch milliseconds by its own clock."""

    id: str
    version: str
    started_at_ms: int
    last_seen_ms: int


class CountStore:
    """Writes the counts of this process and reads those of all processes."""

    def __init__(self, redis: Commands, keys: Keys, *, replica_id: str, process_id: int, version: str) -> None:
        self._execute = partial(redis.execute, bucket=COUNTS_BUCKET)
        self._keys = keys
        self._member = f"{replica_id}:{process_id}".encode()
        self._version = version

    async def write(self, sums: Mapping[str, int], *, started_at_ms: int, now_ms: int) -> None:
        key = self._keys.counts(self._member)
        fields: list[str | int] = ["version", self._version, "started_at_ms", started_at_ms, "last_seen_ms", now_ms]
        for name, value in sums.items():
            fields += (name, value)
        await asyncio.gather(
            self._execute("HSET", key, *fields),
            self._execute("PEXPIRE", key, COUNTS_TTL_MS),
            self._execute("ZADD", self._keys.processes, now_ms, self._member),
            self._execute("ZREMRANGEBYSCORE", self._keys.processes, "-inf", now_ms - COUNTS_TTL_MS),
            self._execute("PEXPIRE", self._keys.processes, COUNTS_TTL_MS),
        )

    async def read(self, *, deadline: float | None = None) -> tuple[Counts[str], list[Replica]]:
        """The sums over all processes seen in the last two hours, and the replicas of those processes."""
        ask = partial(self._execute, deadline=deadline)
        members: list[bytes] = await ask("ZRANGE", self._keys.processes, 0, -1)
        hashes = await asyncio.gather(*(ask("HGETALL", self._keys.counts(member)) for member in members))
        sums: Counts[str] = Counts()
        replicas: dict[str, Replica] = {}
        for member, flat in zip(members, hashes, strict=True):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if not fields:
                continue
            replica = Replica(
                member.decode().rpartition(":")[0],
                fields.pop(b"version").decode(),
                int(fields.pop(b"started_at_ms")),
                int(fields.pop(b"last_seen_ms")),
            )
            replicas[replica.id] = _joined(replicas.get(replica.id, replica), replica)
            sums.update({name.decode(): int(value) for name, value in fields.items()})
        return sums, list(replicas.values())


def _joined(one: Replica, other: Replica) -> Replica:
    """One replica of several processes: from the earliest start to the latest sign of life."""
    return msgspec.structs.replace(
        one,
        started_at_ms=min(one.started_at_ms, other.started_at_ms),
        last_seen_ms=max(one.last_seen_ms, other.last_seen_ms),
    )
