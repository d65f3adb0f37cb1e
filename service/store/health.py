"""Finds out by a write whether the store takes webhooks now: a demoted or full Redis still answers reads."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import msgspec
from redis.exceptions import RedisError

from service.errors import StoreUnavailableError
from service.redis_client.command import Commands
from service.store.keys import PROBE_TTL_MS, Keys

PROBE_VALID_S: Final = 0.2
"""Health checks closer together than this share one probe of each master."""


class CommandsToMasters(Commands, Protocol):
    """Commands that go to one master or to several."""

    async def find_masters(self) -> dict[str, int]:
        """The masters by name, each with one of its buckets."""
        ...


class MasterProbe(msgspec.Struct, frozen=True):
    is_writable: bool
    latency_ms: float
    problem: str | None
    valid_until: float
    """By ``time.monotonic``."""


class StoreProbe(msgspec.Struct, frozen=True):
    """The probes of all masters."""

    masters: dict[str, MasterProbe]

    @property
    def is_writable(self) -> bool:
        """Whether a webhook of any call can be taken."""
        return all(master.is_writable for master in self.masters.values())

    @property
    def is_partly_writable(self) -> bool:
        """Whether a webhook of some call can be taken."""
        return any(master.is_writable for master in self.masters.values())

    @property
    def latency_ms(self) -> float:
        """Of the slowest master."""
        return max(master.latency_ms for master in self.masters.values())

    @property
    def problem(self) -> str | None:
        """Of the first master that has one."""
        return next((master.problem for master in self.masters.values() if master.problem is not None), None)


class StoreHealth:
    """Probes each master by writing a short-lived key to it.

    Each probe is a task that concurrent checks share, so a master that does not answer has only one probe at a time.
    """

    def __init__(self, redis: CommandsToMasters, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._probes: dict[str, asyncio.Task[MasterProbe]] = {}

    @property
    def topology_problem(self) -> str | None:
        return self._redis.topology_problem

    async def probe(self, within_s: float | None = None) -> StoreProbe:
        """Probe all masters. Waits for the slowest, for ``STORE_TIMEOUT_S`` or ``within_s`` at most."""
        probes = await self._begin_probes()
        await asyncio.wait(probes.values(), timeout=within_s)
        silent = MasterProbe(False, round((within_s or 0.0) * 1000, 3), "no answer in time", 0.0)
        return StoreProbe({name: probe.result() if probe.done() else silent for name, probe in probes.items()})

    async def is_partly_writable(self) -> bool:
        """As of StoreProbe. Returns once one master has taken its probe, without waiting for dead ones."""
        waiting = set((await self._begin_probes()).values())
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(probe.result().is_writable for probe in done):
                return True
        return False

    async def _begin_probes(self) -> dict[str, asyncio.Task[MasterProbe]]:
        """One probe for each master: the last one while it runs or is valid, else a new one."""
        loop = asyncio.get_running_loop()
        probes: dict[str, asyncio.Task[MasterProbe]] = {}
        for name, bucket in (await self._redis.find_masters()).items():
            last = self._probes.get(name)
            is_current = last is not None and _is_current(last)
            probes[name] = last if last and is_current else loop.create_task(self._probe_master(bucket), name="probe")
        self._probes = probes
        return probes

    async def _probe_master(self, bucket: int) -> MasterProbe:
        started = time.monotonic()
        problem = None
        try:
            await self._redis.execute(
                "SET", self._keys.probes[bucket], "1", "PX", PROBE_TTL_MS,
                bucket=bucket, coalesce_key=("probe", bucket), is_durable=True,
            )  # fmt: skip
        except StoreUnavailableError as exc:
            problem = exc.reason
        except RedisError as exc:
            problem = str(exc)
        problem = self._redis.topology_problem or problem
        finished = time.monotonic()
        latency_ms = round((finished - started) * 1000, 3)
        return MasterProbe(problem is None, latency_ms, problem, finished + PROBE_VALID_S)


def _is_current(probe: asyncio.Task[MasterProbe]) -> bool:
    if not probe.done():
        return True
    has_result = not probe.cancelled() and probe.exception() is None
    return has_result and time.monotonic() < probe.result().valid_until
