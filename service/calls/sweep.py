"""What time changes and what notifications missed: looked for by every process, about every 1.5 seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.keys import BUCKETS, bucket_of
from service.store.shapes import Merged

SWEEP_EVERY_S: Final = 1.5
"""With the time it takes, a lost notification delays a poll by less than 2 s."""

LOOK_BACK_MS: Final = 1000
"""Changes are looked for from a little before the last look: after a failover the clock may be another one."""


class Sweep:
    """Wakes the polls of calls that changed unnoticed, and ends the grace of reports that did not come.

    What it finds of subscriptions to be resumed, the store tells whoever listens there.
    """

    def __init__(self, store: CallStore, changes: Changes, on_merged: Callable[[Merged], None]) -> None:
        self._store = store
        self._changes = changes
        self._on_merged = on_merged
        self.on_subscribed: Callable[[bytes], None] | None = None
        """Told of each call that an execution waits for, every 5 s, in one process of all."""
        self._looked_at_ms: tuple[int, ...] = ()
        self._clock_offsets_ms: tuple[float, ...] = (0.0,) * BUCKETS

    def now_ms(self, call_id: bytes | None = None) -> int:
        """Redis's clock, as far as we know it from the last sweep: that of the call's master, else the latest one.

        In a Cluster the masters' clocks differ. A call's grace is over when its own master says so: by a clock that is
        ahead of it, its parked polls would look every 50 ms until then.
        """
        offset_ms = max(self._clock_offsets_ms) if call_id is None else self._clock_offsets_ms[bucket_of(call_id)]
        return round(time.time() * 1000 + offset_ms)

    async def sweep(self) -> None:
        since = self._looked_at_ms if self._changes.has_parked else ()
        survey = await self._store.survey(changed_since_ms=since, takes_turns=True)
        self._clock_offsets_ms = tuple(now_ms - time.time() * 1000 for now_ms in survey.now_ms)
        self._looked_at_ms = tuple(now_ms - LOOK_BACK_MS for now_ms in survey.now_ms)
        for call_id in survey.changed:
            self._changes.wake(call_id)
        if self.on_subscribed is not None:
            for call_id in survey.in_turn:
                self.on_subscribed(call_id)
        for call_id in survey.due:
            self._on_merged(await self._store.settle(call_id))
