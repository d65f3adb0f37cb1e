"""Which buckets of the store take no changes now, and when to try each of them again."""

from __future__ import annotations

from typing import Final

import msgspec

from service.store.keys import BUCKETS

SHORTEST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 2.0
"""A shard that is back is noticed within this time plus that of one request."""


class _Trouble(msgspec.Struct):
    since: float
    until: float


class BucketPauses:
    """Times are in seconds, by any monotonic clock."""

    def __init__(self) -> None:
        self._troubles: dict[int, _Trouble] = {}

    def sound(self) -> list[int]:
        return [bucket for bucket in range(BUCKETS) if bucket not in self._troubles]

    def to_probe(self, now: float) -> list[int]:
        """Failing buckets whose pause is over."""
        return [bucket for bucket, trouble in self._troubles.items() if trouble.until <= now]

    def end(self, bucket: int) -> None:
        self._troubles.pop(bucket, None)

    def lengthen(self, bucket: int, now: float) -> None:
        """Pause for half of the outage so far: the end of a short one is noticed soon, a long one costs little."""
        trouble = self._troubles.setdefault(bucket, _Trouble(now, now))
        trouble.until = now + min(max((now - trouble.since) / 2, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
