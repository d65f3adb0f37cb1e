"""How many webhooks a client address may send in a minute, over all replicas."""

from __future__ import annotations

import time
from typing import Final

import structlog

from service.errors import StoreUnavailableError
from service.redis_client.command import Commands
from service.store.keys import Keys, bucket_of
from service.store.lua import load_script

log = structlog.get_logger(__name__)

WINDOW_MS: Final = 60_000

ANSWER_WITHIN_S: Final = 0.25
"""Longest wait for Redis; after it the request passes uncounted, so that the limit delays no webhook."""


class RateLimit:
    """Counts in Redis. Refused requests are not counted, so a client that sends too much still gets its share."""

    def __init__(self, redis: Commands, keys: Keys, per_minute: int, *, store_timeout_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._per_minute = per_minute
        self._answer_within_s = min(ANSWER_WITHIN_S, store_timeout_s / 2)  # the rest is for the merge
        self._script = load_script("rate_limit.lua")

    async def retry_after_s(self, client: str) -> float:
        """Seconds until the client's next request is allowed; 0 if this one is, or if Redis does not answer."""
        name = client.encode()
        bucket = bucket_of(name)
        window, since_ms = divmod(round(time.time() * 1000), WINDOW_MS)
        try:
            wait_ms: int = await self._script.run(
                self._redis,
                bucket,
                self._keys.rate(bucket, name, window),
                self._keys.rate(bucket, name, window - 1),
                self._per_minute,
                WINDOW_MS,
                since_ms,
                keys=2,
                deadline=time.monotonic() + self._answer_within_s,
            )
        except StoreUnavailableError:
            log.warning("rate_limit.stepped_aside")
            return 0.0
        return wait_ms / 1000
