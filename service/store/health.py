"""Whether the store can take a webhook durably now: asked by writing, for a demoted or full Redis still reads well."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from redis.exceptions import RedisError

from service.errors import StoreUnavailableError
from service.store.command import Commands
from service.store.keys import PROBE_TTL_MS, Keys

PROBE_VALID_S: Final = 0.2
"""Health checks closer together than this share one probe."""


class Probe(msgspec.Struct, frozen=True):
    is_writable: bool
    latency_ms: float
    problem: str | None = None


class StoreHealth:
    """Writes a short-lived key to find out."""

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.probes[0]
        self._last = Probe(is_writable=False, latency_ms=0.0)
        self._valid_until = 0.0

    @property
    def topology_problem(self) -> str | None:
        return self._redis.topology_problem

    async def probe(self) -> Probe:
        started = time.monotonic()
        if started < self._valid_until:
            return self._last
        problem = None
        try:
            await self._redis.execute("SET", self._key, "1", "PX", PROBE_TTL_MS, share_as="probe", is_durable=True)
        except StoreUnavailableError as exc:
            problem = str(exc.__cause__ or exc)
        except RedisError as exc:
            problem = str(exc)
        problem = self._redis.topology_problem or problem
        finished = time.monotonic()
        self._last = Probe(problem is None, round((finished - started) * 1000, 3), problem)
        self._valid_until = finished + PROBE_VALID_S
        return self._last
