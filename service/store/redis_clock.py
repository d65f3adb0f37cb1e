"""Redis's clock, as this process knows it."""

from __future__ import annotations

import time

from service.store.keys import bucket_of


class RedisClock:
    """How far the clock of each bucket's master is ahead of ours, as the last scan of the bucket showed it."""

    def __init__(self) -> None:
        self._ahead_ms: dict[int, float] = {}

    def set(self, bucket: int, now_ms: int) -> None:
        self._ahead_ms[bucket] = now_ms - time.time() * 1000

    def forget(self, bucket: int) -> None:
        """The bucket's master is away; the next may have another clock."""
        self._ahead_ms.pop(bucket, None)

    def now_ms(self, call_id: bytes | None = None) -> int:
        """The clock of the call's master, or without a call (or while its bucket is away) the one that is most ahead.

        In a Cluster the masters' clocks differ. A call's grace is over by the clock of its own master. By a clock ahead
        of that, its parked polls would read the record every 50 ms until then.
        """
        most_ms = max(self._ahead_ms.values(), default=0.0)
        ahead_ms = most_ms if call_id is None else self._ahead_ms.get(bucket_of(call_id), most_ms)
        return round(time.time() * 1000 + ahead_ms)
