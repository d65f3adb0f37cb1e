"""Looks through the calls that have callbacks, and makes up for merges by replicas that know of no callbacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from service.config import Settings
from service.redis_client.command import Commands
from service.store.all_buckets import ask_all_buckets
from service.store.keys import BUCKETS, HELD_FOR_MS, Keys
from service.store.lua import load_script

SUBSCRIPTIONS_PER_LOOK: Final = 200
"""How many one look at a bucket takes up, in about a millisecond of Redis's time. The next look takes up the others."""

LOOKED_AT_EVERY_MS: Final = 5_000
"""How often a call is looked at, whatever the number of replicas."""

OVER_LOOKED_AT_EVERY_MS: Final = 60_000
"""The same for a call that is over: only a late event may still end its hold, or a failover lose its entry."""


class CallbackStanding(msgspec.Struct, frozen=True):
    """What the last look found in the buckets that answered."""

    calls: int = 0
    """Calls with callbacks that are not delivered, running calls included."""
    due: dict[bytes, int] = msgspec.field(default_factory=dict)
    """How many callbacks are to be sent now, by the tag of their origin."""
    due_buckets: tuple[tuple[int, bytes], ...] = ()
    """Each bucket and origin with due callbacks."""


class CallbackCalls:
    """The calls with callbacks, in all buckets."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys, origin_tags: Sequence[bytes]) -> None:
        self._redis = redis
        self._keys = keys
        self._origin_tags = origin_tags
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms, HELD_FOR_MS)
        self._result_ttl_ms = settings.result_ttl_ms
        self._script = load_script("look_at_callbacks.lua")

    async def look(self) -> CallbackStanding:
        """Look at all buckets, at SUBSCRIPTIONS_PER_LOOK in each.

        Raises:
            StoreUnavailableError: no bucket answered.
        """
        answered = await ask_all_buckets(self._look_at, range(BUCKETS))
        due: Counter[bytes] = Counter()
        due_buckets: list[tuple[int, bytes]] = []
        for bucket, (_, *counts) in answered.replies.items():
            of_origin = {tag: count for tag, count in zip(self._origin_tags, counts, strict=True) if count}
            due.update(of_origin)
            due_buckets += [(bucket, tag) for tag in of_origin]
        return CallbackStanding(sum(reply[0] for reply in answered.replies.values()), dict(due), tuple(due_buckets))

    async def _look_at(self, bucket: int) -> list[int]:
        keys = self._keys
        counts: list[int] = await self._script.run(
            self._redis,
            bucket,
            keys.callback_calls(bucket),
            keys.expiry(bucket),
            keys.updates(bucket),
            keys.held[bucket],
            keys.calls[bucket],
            keys.subscriptions[bucket],
            keys.phones[bucket],
            keys.due_callbacks(bucket),
            SUBSCRIPTIONS_PER_LOOK,
            LOOKED_AT_EVERY_MS,
            min(OVER_LOOKED_AT_EVERY_MS, self._result_ttl_ms // 2),
            self._index_ttl_ms,
            self._result_ttl_ms,
            *self._origin_tags,
            keys=4,
        )
        return counts
