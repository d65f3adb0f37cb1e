"""Whether there is room for one more subscription, by their number and Redis's memory, checked once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from service.config import Settings
from service.errors import StoreUnavailableError
from service.redis_client.command import Commands
from service.store.keys import BUCKETS, Keys
from service.store.lua import load_script
from service.store.redis_memory import RedisMemory

Refusal = Literal["", "too_many", "too_many_unknown", "nearly_full"]

COUNTED_EVERY_S: Final = 1.0

COUNT_WITHIN_S: Final = 0.3
"""A master that hangs must not delay the subscriptions of others; its last count is used until it answers."""

COUNTED_AGAIN_EVERY_MS: Final = 60_000
"""Longest time for which a subscription that expired with its record still counts. With 100,000 subscriptions and a
new one every second, Redis checks 1,700 a second, which takes it some 5 ms."""

COUNTED_AT_ONCE: Final = 500
"""Entries checked per bucket and count, so that no count blocks Redis for more than about 2 ms."""

UNKNOWN_SHARE: Final = 10
"""A tenth of all subscriptions may be of unknown calls, so that made-up ids cannot use up the places of real ones."""

FREE_SHARE: Final = 10
"""A tenth of Redis's memory is kept for webhooks."""


class SubscriptionRoom:
    """One per process. It adds this process's new subscriptions at once; those of others appear with the next count."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._most = settings.max_subscriptions
        self._most_unknown = max(1, settings.max_subscriptions // UNKNOWN_SHARE)
        self._counted_every_ms = min(COUNTED_AGAIN_EVERY_MS, settings.result_ttl_ms)
        self._index_ttl_ms = 2 * max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._count_script = load_script("count_subscriptions.lua")
        self._memory = RedisMemory(settings, redis, consequence="only their number bounds subscriptions")
        self._counts: list[tuple[int, int]] = [(0, 0)] * BUCKETS
        self._added = {"known": 0, "unknown": 0}
        self._under_way = 0
        self._is_nearly_full = [False] * BUCKETS
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at: float | None = None

    async def refresh(self) -> None:
        """Count anew if the last count is older than a second. Concurrent callers wait for the same count."""
        now = asyncio.get_running_loop().time()
        if self._refreshed_at is not None and now - self._refreshed_at < COUNTED_EVERY_S:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="subscription-room")
        await asyncio.wait([self._refreshing], timeout=COUNT_WITHIN_S)
        if self._refreshing.done():
            self._refreshing.result()

    def refusals(self, bucket: int) -> tuple[Refusal, Refusal]:
        """Why no further subscription in that bucket is taken: first for a known call, then for an unknown one."""
        if self._is_nearly_full[bucket]:
            return "nearly_full", "nearly_full"
        known, unknown = map(sum, zip(*self._counts, strict=True))
        unknown += self._added["unknown"] + self._under_way
        if known + self._added["known"] + unknown >= self._most:
            return "too_many", "too_many"
        return "", "too_many_unknown" if unknown >= self._most_unknown else ""

    @contextmanager
    def reserved(self) -> Iterator[list[str]]:
        """Reserve a place during a request to Redis. If it adds one, put ``known`` or ``unknown`` into the list."""
        added: list[str] = []
        self._under_way += 1
        try:
            yield added
        finally:
            self._under_way -= 1
            for whose in added:
                self._added[whose] += 1

    async def _refresh(self) -> None:
        refreshed_at, added = asyncio.get_running_loop().time(), self._added.copy()
        _, self._is_nearly_full = await asyncio.gather(self._count(), self._memory.are_short(FREE_SHARE))
        self._refreshed_at = refreshed_at
        for whose, count in added.items():
            self._added[whose] -= count

    async def _count(self) -> None:
        buckets = [self._count_bucket(bucket) for bucket in range(BUCKETS)]
        for bucket, counts in enumerate(await asyncio.gather(*buckets)):
            if counts is not None:
                self._counts[bucket] = counts

    async def _count_bucket(self, bucket: int) -> tuple[int, int] | None:
        """(known, unknown); None while the bucket's master does not answer."""
        try:
            known, unknown = await self._count_script.run(
                self._redis,
                bucket,
                *self._keys.counted_subscriptions(bucket),
                self._keys.subscriptions[bucket],
                self._keys.calls[bucket],
                self._counted_every_ms,
                COUNTED_AT_ONCE,
                self._index_ttl_ms,
                keys=2,
            )
        except StoreUnavailableError:
            return None
        return known, unknown
