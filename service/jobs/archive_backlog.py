"""What waits for the archive, and its bounds: a day, and the memory that webhooks need."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from service.errors import StoreUnavailableError
from service.store.archive_stream import ArchiveStream, StreamLook
from service.store.keys import HELD_FOR_MS
from service.store.redis_memory import RedisMemory

log = structlog.get_logger(__name__)

FREE_SHARE: Final = 4
"""While less than a quarter of Redis's memory is free, records that only wait for the archive make room."""

LATE_S: Final = 1.0
"""A younger backlog is only what changes all the time. Redis is not asked about its memory for that."""

MEMORY_CHECKED_EVERY_S: Final = 0.5

GIVEN_UP_PER_ROUND: Final = 500
"""Per bucket. A round comes every half second, so all replicas make room faster than webhooks can take it."""


class ArchiveBacklog:
    """The changes that wait, as the last look at each bucket's stream found them.

    Args:
        on_given_up: called with how many calls were given up.
    """

    def __init__(self, stream: ArchiveStream, memory: RedisMemory, on_given_up: Callable[[int], None]) -> None:
        self._stream = stream
        self._memory = memory
        self._on_given_up = on_given_up
        self._looks: dict[int, StreamLook] = {}
        self._memory_checked_at = 0.0

    def note(self, bucket: int, look: StreamLook) -> None:
        """Keep what the last look at a bucket's stream found."""
        self._looks[bucket] = look

    @property
    def changes(self) -> int:
        """How many changes and deletions are not written yet, by whichever replica."""
        return sum(look.length for look in self._looks.values())

    @property
    def age_s(self) -> float:
        """The age of the oldest of them; 0 if there is none."""
        return max((_age_ms(look) for look in self._looks.values()), default=0) / 1000

    async def bound(self) -> None:
        """Give up what waits for too long, or takes the memory that webhooks need."""
        for bucket, look in self._looks.items():
            if _age_ms(look) > HELD_FOR_MS:
                await self._give_up(bucket, before_ms=look.now_ms - HELD_FOR_MS)
        now = time.monotonic()
        if self.age_s > LATE_S and now >= self._memory_checked_at + MEMORY_CHECKED_EVERY_S:
            self._memory_checked_at = now
            for bucket, is_short in enumerate(await self._memory.are_short(FREE_SHARE)):
                if is_short and bucket in self._looks and self._looks[bucket].length:
                    await self._give_up(bucket, only_expired=True)

    async def _give_up(self, bucket: int, *, before_ms: int | None = None, only_expired: bool = False) -> None:
        try:
            count = await self._stream.give_up(
                bucket, GIVEN_UP_PER_ROUND, before_ms=before_ms, only_expired=only_expired
            )
        except StoreUnavailableError:
            return
        if count:
            self._on_given_up(count)
            reason = "redis is nearly full" if only_expired else "a day has passed"
            log.error("archive.calls_given_up", count=count, bucket=bucket, reason=reason)


def _age_ms(look: StreamLook) -> int:
    return max(0, look.now_ms - look.oldest_ms) if look.oldest_ms else 0
