"""Scans the store's buckets for live and changed records and ended graces, at a cost independent of their number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Final

import msgspec

from service.config import Settings
from service.redis_client.command import Argument, Commands
from service.store.all_buckets import ask_all_buckets
from service.store.keys import BUCKETS, Keys
from service.store.lua import load_script

SUBSCRIBED_AT_MOST: Final = 50
"""Subscribed calls that one scan of a bucket takes up; the next scans take up the others."""

SUBSCRIBED_EVERY_MS: Final = 5_000
"""How often a subscribed call is taken up, whatever the number of replicas."""

REFRESHES_AT_MOST: Final = 2
"""Late refreshes that one scan of a bucket takes up: over all buckets, more than a process asks for until the next."""

REFRESH_LEASE_MS: Final = 30_000
"""How long no other process takes up such a call. A process that has not asked by then had no turn, or died."""


class BucketScan(msgspec.Struct, frozen=True):
    """What a scan of one bucket found."""

    now_ms: int
    """By the clock of the bucket's master; a Cluster has several masters."""
    size: int
    past_grace: list[bytes]
    """Partial records whose grace is over."""
    changed: list[bytes]
    newest: list[tuple[int, bytes]]
    """(updated_at in ms, call id), newest first."""
    resumable: int
    """Subscriptions whose execution is to be resumed now."""
    subscribed_calls: int
    """Subscribed calls that are not final. Expired ones still count for some seconds."""
    to_reconcile: list[bytes]
    """The subscribed calls that this scan took up."""
    refreshable: list[bytes]
    """Complete calls whose record lacks something; this scan took them up, to ask VAPI once more."""
    running: int
    """Records that are not final, unless they have been silent for PENDING_TTL_S - RESULT_TTL_S."""
    longest_silence_ms: int
    """Since the last event of the running call that has been silent longest; 0 if no call runs."""


class IndexScan(msgspec.Struct, frozen=True):
    """The same for all buckets that answered."""

    now_ms: tuple[int, ...]
    """One per bucket; 0 for a bucket that did not answer."""
    size: int
    past_grace: list[bytes]
    changed: list[bytes]
    newest: list[tuple[int, bytes]]
    resumable: tuple[int, ...]
    """One per bucket."""
    subscribed_calls: int
    to_reconcile: list[bytes]
    missing: tuple[int, ...]
    """The buckets that did not answer; their calls are not counted here."""


class IndexScanner:
    """Scans with one script run per bucket."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._grace_ms = settings.report_grace_ms
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._pending_ttl_ms = settings.pending_ttl_ms
        self._final_ttl_ms: Argument = (
            settings.result_ttl_ms if settings.result_ttl_ms < settings.pending_ttl_ms else b""
        )
        self._script = load_script("scan_bucket.lua")

    async def scan(
        self,
        bucket: int,
        changed_since_ms: int | None = None,
        newest: int = 0,
        *,
        takes_turns: bool = False,
        takes_refreshes: bool = False,
        deadline: float | None = None,
    ) -> BucketScan:
        """See CallStore.scan_bucket."""
        (
            now,
            size,
            past_grace,
            changed,
            latest,
            resumable,
            subscribed_calls,
            to_reconcile,
            refreshable,
            running,
            first_expiry,
        ) = await self._script.run(
            self._redis,
            bucket,
            *self._keys.indices[bucket],
            self._grace_ms,
            b"" if changed_since_ms is None else changed_since_ms,
            newest,
            SUBSCRIBED_AT_MOST if takes_turns else 0,
            SUBSCRIBED_EVERY_MS,
            self._keys.subscriptions[bucket],
            self._index_ttl_ms,
            REFRESHES_AT_MOST if takes_refreshes else 0,
            REFRESH_LEASE_MS,
            self._keys.refreshes[bucket],
            self._final_ttl_ms,
            self._keys.held[bucket],
            keys=6,
            deadline=deadline,
        )
        entries = [(int(float(score)), call_id) for call_id, score in _pairs(latest)]
        silence_ms = now + self._pending_ttl_ms - int(float(first_expiry)) if first_expiry else 0
        return BucketScan(
            now, size, past_grace, changed, entries, resumable, subscribed_calls, to_reconcile, refreshable, running,
            silence_ms,
        )  # fmt: skip

    async def scan_all(
        self, changed_since_ms: tuple[int, ...], newest: int, *, takes_turns: bool, deadline: float | None
    ) -> IndexScan:
        """See CallStore.scan."""
        scan = partial(self.scan, newest=newest, takes_turns=takes_turns, deadline=deadline)
        answered = await ask_all_buckets(
            lambda bucket: scan(bucket, changed_since_ms[bucket] if changed_since_ms else None)
        )
        found = answered.replies
        scans = list(found.values())
        entries = sorted(chain.from_iterable(one.newest for one in scans), key=lambda entry: (-entry[0], entry[1]))
        return IndexScan(
            now_ms=tuple(found[bucket].now_ms if bucket in found else 0 for bucket in range(BUCKETS)),
            size=sum(one.size for one in scans),
            past_grace=list(chain.from_iterable(one.past_grace for one in scans)),
            changed=list(chain.from_iterable(one.changed for one in scans)),
            newest=entries[:newest],
            resumable=tuple(found[bucket].resumable if bucket in found else 0 for bucket in range(BUCKETS)),
            subscribed_calls=sum(one.subscribed_calls for one in scans),
            to_reconcile=list(chain.from_iterable(one.to_reconcile for one in scans)),
            missing=answered.missing,
        )


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
