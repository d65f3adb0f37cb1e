"""Finds ended graces and missed notifications: every process scans all buckets about every 1.5 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import structlog

from service.calls.stored_call import Merged
from service.errors import StoreUnavailableError
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.index_scan import BucketScan
from service.store.keys import BUCKETS
from service.store.redis_clock import RedisClock

log = structlog.get_logger(__name__)

SWEEP_EVERY_S: Final = 1.5
"""Including the time of a sweep, a lost notification delays a poll by less than 2 s."""

SCAN_OVERLAP_MS: Final = 1000
"""Each scan starts a little before the last one: after a failover Redis's clock may be another one."""

WAIT_S: Final = 1.0
"""Longest wait of a sweep for the slowest bucket. The next sweep then scans the others in time."""


class Standing(msgspec.Struct, frozen=True):
    """What stands in Redis, as the last scan of each bucket found it."""

    records: int
    running: int
    """Records that are not final."""
    longest_silence_s: float
    """Since the last event of the running call that has been silent longest; 0 if no call runs."""
    subscribed_calls: int
    due_subscriptions: int


class Sweep:
    """Wakes the polls of calls that changed unnoticed, and ends the grace of reports that did not come.

    Each bucket is scanned by itself, so a shard that is away or full does not stop the others. The store reports due
    subscriptions by its ``on_due``. ``clock`` is set by each scan.
    """

    def __init__(
        self, store: CallStore, changes: Changes, clock: RedisClock, on_merged: Callable[[Merged], None]
    ) -> None:
        self._store = store
        self.clock = clock
        self._changes = changes
        self._on_merged = on_merged
        self.on_subscribed: Callable[[bytes], None] | None = None
        """Called for each subscribed call every 5 s, in one process of all."""
        self.on_refreshable: Callable[[bytes], None] | None = None
        """Called for each complete call that VAPI may be asked for once more, in one process of all."""
        self._scans: dict[int, asyncio.Task[None]] = {}
        """The scans under way, by bucket."""
        self._scanned_at_ms: list[int | None] = [None] * BUCKETS
        self._last_scans: dict[int, BucketScan] = {}
        self.missing_buckets: set[int] = set()
        """The buckets whose last scan got no answer."""

    async def sweep(self) -> None:
        """Scan every bucket that no earlier sweep still scans. Raises nothing: the next sweep repeats what failed."""
        loop = asyncio.get_running_loop()
        for bucket in range(BUCKETS):
            if bucket not in self._scans:
                scan = loop.create_task(self._scan_and_act(bucket), name=f"sweep-{bucket}")
                self._scans[bucket] = scan
                scan.add_done_callback(partial(self._forget, bucket))
        await asyncio.wait(self._scans.values(), timeout=WAIT_S)

    def find_standing(self) -> Standing | None:
        """The sums over the buckets that answer; None while none does."""
        scans = self._last_scans.values()
        if not scans:
            return None
        return Standing(
            records=sum(scan.size for scan in scans),
            running=sum(scan.running for scan in scans),
            longest_silence_s=max(scan.longest_silence_ms for scan in scans) / 1000,
            subscribed_calls=sum(scan.subscribed_calls for scan in scans),
            due_subscriptions=sum(scan.resumable for scan in scans),
        )

    async def close(self) -> None:
        """Call it after cancelling ``sweep``: ends the scans that are still under way."""
        scans = list(self._scans.values())
        for scan in scans:
            scan.cancel()
        await asyncio.gather(*scans, return_exceptions=True)

    def _forget(self, bucket: int, _: asyncio.Task[None]) -> None:
        del self._scans[bucket]

    async def _scan_and_act(self, bucket: int) -> None:
        try:
            due = await self._scan(bucket)
        except StoreUnavailableError:
            self.clock.forget(bucket)
            self._last_scans.pop(bucket, None)
            self.missing_buckets.add(bucket)
            log.debug("sweep.bucket_missing", bucket=bucket)
            return
        except Exception:
            log.exception("sweep.failed", bucket=bucket)
            return
        for call_id in due:
            await self._end_grace(call_id)

    async def _scan(self, bucket: int) -> list[bytes]:
        """Scan the bucket, wake polls and call the callbacks; returns the calls whose grace is over."""
        since = self._scanned_at_ms[bucket] if self._changes.has_parked else None
        scan = await self._store.scan_bucket(
            bucket, since, takes_turns=True, takes_refreshes=self.on_refreshable is not None
        )
        self.clock.set(bucket, scan.now_ms)
        self._scanned_at_ms[bucket] = scan.now_ms - SCAN_OVERLAP_MS
        self._last_scans[bucket] = scan
        self.missing_buckets.discard(bucket)
        for call_id in scan.changed:
            self._changes.wake(call_id)
        if self.on_subscribed is not None:
            for call_id in scan.to_reconcile:
                self.on_subscribed(call_id)
        if self.on_refreshable is not None:
            for call_id in scan.refreshable:
                self.on_refreshable(call_id)
        return scan.past_grace

    async def _end_grace(self, call_id: bytes) -> None:
        """Never raises: a call whose record cannot be written stays due, and must not block the next call."""
        try:
            self._on_merged(await self._store.expire_grace(call_id))
        except StoreUnavailableError as exc:
            log.debug("sweep.grace_not_ended", call_id=call_id.decode(errors="replace"), error=exc.reason)
        except Exception:
            log.exception("sweep.failed", call_id=call_id.decode(errors="replace"))
