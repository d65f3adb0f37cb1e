"""The masters of a Cluster have clocks that differ: each call is judged by that of its own master."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service.jobs.sweep import Sweep
from service.metrics.process import Metrics
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.index_scan import BucketScan
from service.store.keys import BUCKETS, bucket_of
from service.store.redis_clock import RedisClock
from tests.support.opened_store import OpenedStore

AHEAD_MS: Final = 60_000
CALL: Final = b"call-1"
OTHER: Final = next(
    name for name in (b"other-%d" % n for n in range(9 * BUCKETS)) if bucket_of(name) != bucket_of(CALL)
)


class _OneMasterAhead(CallStore):
    """As if the bucket of OTHER were on a master whose clock is a minute ahead."""

    async def scan_bucket(self, bucket: int, *args: Any, **options: Any) -> BucketScan:
        scan = await super().scan_bucket(bucket, *args, **options)
        ahead_ms = AHEAD_MS if bucket == bucket_of(OTHER) else 0
        return msgspec.structs.replace(scan, now_ms=scan.now_ms + ahead_ms)


async def test_a_master_whose_clock_is_ahead_ends_no_grace_of_another_masters_calls(opened: OpenedStore) -> None:
    store = _OneMasterAhead(opened.settings, opened.pipeline, opened.keys)
    sweep = Sweep(store, Changes(opened.connect, opened.keys.changes), RedisClock(), Metrics().merged)
    await sweep.sweep()

    assert abs(sweep.clock.now_ms(OTHER) - sweep.clock.now_ms(CALL) - AHEAD_MS) < AHEAD_MS / 2
    assert sweep.clock.now_ms(OTHER) <= sweep.clock.now_ms()  # in this order: time passes between the two
