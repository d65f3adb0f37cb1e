"""How much memory Redis's masters have left, as far as they say it."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import structlog
from redis.exceptions import NoPermissionError

from service.config import Settings
from service.errors import StoreRefusedError, StoreUnavailableError
from service.redis_client.command import Commands
from service.store.keys import BUCKETS

log = structlog.get_logger(__name__)

_USED: Final = re.compile(rb"^used_memory:(\d+)\r?$", re.MULTILINE)
_MAXIMUM: Final = re.compile(rb"^maxmemory:(\d+)\r?$", re.MULTILINE)


class RedisMemory:
    """Asks each master, with one INFO for all of its buckets.

    Args:
        consequence: what follows where Redis does not show us its memory, for the log.
    """

    def __init__(self, settings: Settings, redis: Commands, *, consequence: str) -> None:
        self._redis = redis
        self._consequence = consequence
        self._is_shown = not settings.redis_url.startswith("memory:")

    async def are_short(self, share: int) -> list[bool]:
        """For each bucket, whether less than one ``share``-th of its master's ``maxmemory`` is left.

        False where there is no maximum, where the master does not show it, or does not answer.
        """
        if not self._is_shown:
            return [False] * BUCKETS
        return list(await asyncio.gather(*(self._is_short(bucket, share) for bucket in range(BUCKETS))))

    async def _is_short(self, bucket: int, share: int) -> bool:
        try:
            text: bytes = await self._redis.execute(b"INFO", b"memory", bucket=bucket, coalesce_key="memory")
        except StoreUnavailableError as exc:
            if isinstance(exc, StoreRefusedError) or isinstance(exc.__cause__, NoPermissionError):
                self._stop_asking(exc)
            return False
        return is_nearly_full(text, share)

    def _stop_asking(self, error: StoreUnavailableError) -> None:
        if self._is_shown:
            self._is_shown = False
            log.warning("redis_memory.not_shown", error=error.reason, consequence=self._consequence)


def is_nearly_full(info: bytes, share: int) -> bool:
    """Whether less than one ``share``-th of ``maxmemory``, if it is set, is left; ``info``: the reply to ``INFO memory``."""
    used, maximum = _USED.search(info), _MAXIMUM.search(info)
    if used is None or maximum is None:
        return False
    most = int(maximum[1])
    return most > 0 and most - int(used[1]) < most / share
