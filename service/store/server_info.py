"""What a Redis server says about itself: version, role, persistence, memory, replicas, clock. Only reads."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import msgspec

from service.errors import StoreUnavailableError
from service.redis_client.command import Commands

CONFIGS: Final = ("appendfsync", "min-replicas-to-write", "cluster-require-full-coverage")
"""Settings that INFO does not show."""

CLOCK_READS: Final = 5

_LINE: Final = re.compile(r"^([a-z0-9_]+):(.*?)\r?$", re.MULTILINE)


class ServerInfo(msgspec.Struct, frozen=True):
    """The reply to INFO, and those of CONFIGS that the server shows to this user."""

    info: dict[str, str]
    config: dict[str, str]

    @property
    def version(self) -> str:
        return self.info.get("redis_version", "")

    @property
    def replicas(self) -> int:
        return self.number("connected_slaves")

    def number(self, name: str) -> int:
        """A number of INFO; 0 where it has none."""
        text = self.info.get(name, "")
        return int(text) if text.isdecimal() else 0

    @property
    def is_cluster(self) -> bool:
        return self.info.get("cluster_enabled") == "1"


class ServerClock(msgspec.Struct, frozen=True):
    ahead_s: float
    """How far the server's clock is ahead of this machine's."""
    uncertain_s: float
    """The true figure may differ by so much: half of a round trip."""


async def read_info(redis: Commands, bucket: int) -> ServerInfo:
    """Of the master of that bucket.

    Raises:
        StoreUnavailableError: INFO has no answer, or is refused; ``__cause__`` is Redis's reply.
    """
    info: bytes = await redis.execute(b"INFO", bucket=bucket)
    config: dict[str, str] = {}
    for name in CONFIGS:
        config |= await _find_config(redis, bucket, name)
    return ServerInfo(dict(_LINE.findall(info.decode(errors="replace"))), config)


async def _find_config(redis: Commands, bucket: int, name: str) -> dict[str, str]:
    """Empty where the server does not show it: most users may not ask, and some hosts have no CONFIG."""
    try:
        reply: list[bytes] = await redis.execute(b"CONFIG", b"GET", name, bucket=bucket)
    except StoreUnavailableError:
        return {}
    texts = [each.decode(errors="replace") for each in reply]
    return dict(zip(texts[::2], texts[1::2], strict=False))


async def read_clock(redis: Commands, bucket: int) -> ServerClock:
    """The least uncertain of CLOCK_READS readings. Raises StoreUnavailableError."""
    clocks = [await _read_clock_once(redis, bucket) for _ in range(CLOCK_READS)]
    return min(clocks, key=lambda clock: clock.uncertain_s)


async def _read_clock_once(redis: Commands, bucket: int) -> ServerClock:
    before, started = time.time(), time.monotonic()
    reply: list[Any] = await redis.execute(b"TIME", bucket=bucket)
    half_s = (time.monotonic() - started) / 2
    return ServerClock(int(reply[0]) + int(reply[1]) / 1e6 - before - half_s, half_s)


async def measure_pings(redis: Commands, bucket: int, *, pings: int) -> list[float]:
    """Seconds of each round trip, the first left out, which may have to connect. Raises StoreUnavailableError."""
    took_s: list[float] = []
    for _ in range(pings + 1):
        started = time.monotonic()
        await redis.execute(b"PING", bucket=bucket)
        took_s.append(time.monotonic() - started)
    return took_s[1:]
