"""The counts of all processes, in Redis: each process writes its own sums once a second, a reader adds them up.

A write replaces the sums, so a repeated write counts nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from service.redis_client.command import Commands
from service.store.keys import COUNTS_BUCKET, COUNTS_TTL_MS, Keys

PRESENT_MS: Final = 10_000
"""A process that is silent for longer has ended or cannot reach Redis: what it held then is not counted as held now."""

NOW: Final = "now."
"""Before the name of what a process holds at this moment. Version 0.1.0 adds such names up and shows them nowhere."""

_SPOOL: Final = "spool."


class Replica(msgspec.Struct, frozen=True):
    """One replica, as its processes last wrote it; times are epoch milliseconds by its own clock."""

    id: str
    version: str
    started_at_ms: int
    last_seen_ms: int
    processes: int = 1
    parked_polls: int = 0
    """Of the processes that are not silent."""
    spool: dict[str, int] | None = None
    """What the replica's spool holds, by the names of ``Held``; None without one."""


class CountStore:
    """Writes the counts of this process and reads those of all processes."""

    def __init__(self, redis: Commands, keys: Keys, *, replica_id: str, process_id: int, version: str) -> None:
        self._execute = partial(redis.execute, bucket=COUNTS_BUCKET)
        self._keys = keys
        self._member = f"{replica_id}:{process_id}".encode()
        self._version = version

    async def write(
        self,
        sums: Mapping[str, int],
        *,
        started_at_ms: int,
        now_ms: int,
        parked_polls: int = 0,
        spool: Mapping[str, int] | None = None,
    ) -> None:
        """``parked_polls`` and ``spool`` (None without one) are what this process holds now."""
        key = self._keys.counts(self._member)
        fields: list[str | int] = ["version", self._version, "started_at_ms", started_at_ms, "last_seen_ms", now_ms]
        fields += (f"{NOW}parked_polls", parked_polls)
        for name, value in sums.items():
            fields += (name, value)
        for name, value in (spool or {}).items():
            fields += (f"{NOW}{_SPOOL}{name}", value)
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
        processes = [
            (member, dict(zip(flat[::2], flat[1::2], strict=True)))
            for member, flat in zip(members, hashes, strict=True)
            if flat
        ]
        newest_ms = max((int(fields[b"last_seen_ms"]) for _, fields in processes), default=0)
        sums: Counts[str] = Counts()
        replicas: dict[str, Replica] = {}
        for member, fields in processes:
            replica = _take_replica(member, fields, newest_ms)
            known = replicas.get(replica.id)
            replicas[replica.id] = replica if known is None else _joined(known, replica)
            sums.update({name.decode(): int(value) for name, value in fields.items()})
        return sums, list(replicas.values())


def _take_replica(member: bytes, fields: dict[bytes, bytes], newest_ms: int) -> Replica:
    """One process as a replica. Removes from ``fields`` what is no sum."""
    now = {
        name.decode().removeprefix(NOW): int(fields.pop(name)) for name in [*fields] if name.startswith(NOW.encode())
    }
    spool = {name.removeprefix(_SPOOL): value for name, value in now.items() if name.startswith(_SPOOL)}
    last_seen_ms = int(fields.pop(b"last_seen_ms"))
    return Replica(
        member.decode().rpartition(":")[0],
        fields.pop(b"version").decode(),
        int(fields.pop(b"started_at_ms")),
        last_seen_ms,
        parked_polls=now.get("parked_polls", 0) if last_seen_ms > newest_ms - PRESENT_MS else 0,
        spool=spool or None,
    )


def _joined(one: Replica, other: Replica) -> Replica:
    """One replica of several processes, which share its spool: from the earliest start to the latest sign of life."""
    latest = max(one, other, key=lambda replica: replica.last_seen_ms)
    return msgspec.structs.replace(
        latest,
        started_at_ms=min(one.started_at_ms, other.started_at_ms),
        processes=one.processes + other.processes,
        parked_polls=one.parked_polls + other.parked_polls,
    )
