"""What time changes and what notifications missed: looked for by every process, about every 1.5 seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from service.calls.stored_call import Merged
from service.errors import StoreUnavailableError
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.keys import BUCKETS, bucket_of

log = structlog.get_logger(__name__)

SWEEP_EVERY_S: Final = 1.5
"""With the time it takes, a lost notification delays a poll by less than 2 s."""

LOOK_BACK_MS: Final = 1000
"""Changes are looked for from a little before the last look: after a failover the clock may be another one."""

WAIT_S: Final = 1.0
"""How long a sweep waits for the slowest bucket; it is left behind then, so that the others are looked at in time."""


class Sweep:
    """Wakes the polls of calls that changed unnoticed, and ends the grace of reports that did not come.

    Each bucket is looked at by itself: what one shard does not answer, or a full one does not take, stops no other.
    What it finds of subscriptions to be resumed, the store tells whoever listens there.
    """

    def __init__(self, store: CallStore, changes: Changes, on_merged: Callable[[Merged], None]) -> None:
        self._store = store
        self._changes = changes
        self._on_merged = on_merged
        self.on_subscribed: Callable[[bytes], None] | None = None
        """Told of each call that an execution waits for, every 5 s, in one process of all."""
        self.on_refreshable: Callable[[bytes], None] | None = None
        """Told of each complete call that VAPI may be asked for once more, in one process of all."""
        self._looks: dict[int, asyncio.Task[None]] = {}
        """Those under way, by bucket."""
        self._looked_at_ms: list[int | None] = [None] * BUCKETS
        self._clock_offsets_ms: dict[int, float] = {}

    def now_ms(self, call_id: bytes | None = None) -> int:
        """Redis's clock, as far as we know it from the last sweep: that of the call's master, else the latest one.

        In a Cluster the masters' clocks differ. A call's grace is over when its own master says so: by a clock that is
        ahead of it, its parked polls would look every 50 ms until then.
        """
        latest_ms = max(self._clock_offsets_ms.values(), default=0.0)
        offset_ms = latest_ms if call_id is None else self._clock_offsets_ms.get(bucket_of(call_id), latest_ms)
        return round(time.time() * 1000 + offset_ms)

    async def sweep(self) -> None:
        """Look at every bucket that the last sweep is done with. Raises nothing: what failed is tried by the next."""
        loop = asyncio.get_running_loop()
        for bucket in range(BUCKETS):
            if bucket not in self._looks:
                look = loop.create_task(self._look_at(bucket), name=f"sweep-{bucket}")
                self._looks[bucket] = look
                look.add_done_callback(partial(self._forget, bucket))
        await asyncio.wait(self._looks.values(), timeout=WAIT_S)

    async def close(self) -> None:
        """After ``sweep`` was cancelled: end the looks at buckets that it left behind."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    def _forget(self, bucket: int, _: asyncio.Task[None]) -> None:
        del self._looks[bucket]

    async def _look_at(self, bucket: int) -> None:
        try:
            due = await self._scan(bucket)
        except StoreUnavailableError:
            self._clock_offsets_ms.pop(bucket, None)
            log.debug("sweep.bucket_missing", bucket=bucket)
            return
        except Exception:
            log.exception("sweep.failed", bucket=bucket)
            return
        for call_id in due:
            await self._end_grace(call_id)

    async def _scan(self, bucket: int) -> list[bytes]:
        """Wake and tell whom it concerns; returns the calls whose grace is over."""
        since = self._looked_at_ms[bucket] if self._changes.has_parked else None
        scan = await self._store.scan_bucket(
            bucket, since, takes_turns=True, takes_refreshes=self.on_refreshable is not None
        )
        self._clock_offsets_ms[bucket] = scan.now_ms - time.time() * 1000
        self._looked_at_ms[bucket] = scan.now_ms - LOOK_BACK_MS
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
        """A call whose record cannot be written stays due, and must not keep the next one from its end."""
        try:
            self._on_merged(await self._store.expire_grace(call_id))
        except StoreUnavailableError as exc:
            log.debug("sweep.grace_not_ended", call_id=call_id.decode(errors="replace"), error=str(exc.__cause__))
        except Exception:
            log.exception("sweep.failed", call_id=call_id.decode(errors="replace"))
