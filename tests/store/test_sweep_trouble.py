"""The sweep goes on where a shard is dead, Redis is full or read-only, or one record cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest

from service.calls.stored_call import StoredCall
from service.jobs.sweep import SWEEP_EVERY_S, Sweep
from service.lifespan import repeat
from service.load_config import load_settings
from service.metrics.process import Metrics
from service.redis_client.topology import open_redis
from service.store.calls import CallStore
from service.store.changes import Changes
from service.store.keys import Keys, bucket_of
from service.store.redis_clock import RedisClock
from service.store.subscriptions import SubscriptionStore
from tests.support.cluster_setup import ClusterSetup
from tests.support.dead_shard import one_shard_dead, partly_serving_cluster, shard_of
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.store_events import change, change_from, is_woken
from tests.support.vapi_sender import status_update

WITHIN_S = 30.0
FAILED = 3


@asynccontextmanager
async def sweeping(store: CallStore, changes: Changes) -> AsyncIterator[tuple[Sweep, list[bytes]]]:
    """A sweep beside a listener that hears nothing, and the calls that it was told somebody waits for."""
    sweep, subscribed = Sweep(store, changes, RedisClock(), Metrics().merged), list[bytes]()
    sweep.on_subscribed = subscribed.append
    task = asyncio.create_task(repeat(sweep.sweep, SWEEP_EVERY_S))
    yield sweep, subscribed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await sweep.close()


async def data_status_of(store: CallStore, call_id: str) -> int | None:
    call = await store.find(call_id.encode())
    return call.data_status if isinstance(call, StoredCall) else None


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSetup]:
    with partly_serving_cluster() as cluster:
        yield cluster


async def test_while_a_shard_is_dead_the_sweep_does_its_work_in_the_others(cluster: ClusterSetup) -> None:
    settings = load_settings({"REDIS_URL": cluster.url, "REDIS_KEY_PREFIX": "dead-shard", "REPORT_GRACE_S": "1"})
    keys = Keys(settings.redis_key_prefix)
    redis = open_redis(settings, keys.probes)
    store = CallStore(settings, redis.commands, keys)
    changes = Changes(redis.connect_subscriber, keys.changes)  # never started: it hears nothing
    shard = shard_of(cluster, 0)
    over, awaited, parked = shard.living_ids("sweep", 3)
    (lost,) = shard.dead_ids("sweep", 1)
    async with sweeping(store, changes) as (sweep, subscribed):
        await sweep.sweep()
        await SubscriptionStore(settings, redis.commands, keys).subscribe(awaited.encode(), b"execution")
        with one_shard_dead(cluster), changes.watch(parked.encode()) as watch:
            await asyncio.sleep(2 * SWEEP_EVERY_S)  # the sweep has met the dead shard
            await store.merge(change_from(status_update("ended", over)))
            await store.merge(change(parked, status=1))
            assert await is_woken(watch, WITHIN_S)
            await eventually(lambda: _is(store, over, FAILED), WITHIN_S)
            await eventually(lambda: _has(subscribed, awaited), WITHIN_S)
        cluster.wait_until_whole()
        with changes.watch(lost.encode()) as watch_of_dead:
            await store.merge(change(lost, status=1))
            assert await is_woken(watch_of_dead, WITHIN_S)
    await redis.commands.close()


async def test_the_look_at_living_shards_is_on_time_while_another_hangs(cluster: ClusterSetup) -> None:
    """Counted, not timed: with every look the sweep of a living bucket passes once, the dead one is left behind."""
    settings = load_settings({"REDIS_URL": cluster.url, "REDIS_KEY_PREFIX": "on-time"})
    settings = msgspec.structs.replace(settings, store_timeout_s=PATIENCE_S)  # the dead shard is asked all the time
    keys = Keys(settings.redis_key_prefix)
    redis = open_redis(settings, keys.probes)
    store = CallStore(settings, redis.commands, keys)
    sweep = Sweep(store, Changes(redis.connect_subscriber, keys.changes), RedisClock(), Metrics().merged)
    await sweep.sweep()
    with one_shard_dead(cluster) as shard:
        living = next(bucket for bucket in range(32) if bucket not in shard.buckets)
        for _ in range(3):
            before = sweep._scanned_at_ms[living]
            sweeping_once = asyncio.create_task(sweep.sweep())
            await eventually(partial(_differs, sweep, living, before), WITHIN_S)
            assert shard.buckets[0] in sweep._scans, (
                "what the living bucket had to say is known while the dead one is asked"
            )
            await sweeping_once
        assert sweep.clock.now_ms() > 0
    await sweep.close()
    cluster.wait_until_whole()
    await redis.commands.close()


async def test_looks_that_were_left_behind_end_when_it_is_closed(
    opened: OpenedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened.store, "scan_bucket", lambda *_, **__: asyncio.Event().wait())
    sweep = Sweep(opened.store, Changes(opened.connect, opened.keys.changes), RedisClock(), Metrics().merged)
    await sweep.sweep()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("sweep-")]
    assert len(left) == 32
    await sweep.close()
    assert all(task.cancelled() for task in left)


async def _differs(sweep: Sweep, bucket: int, before: int | None) -> bool:
    return sweep._scanned_at_ms[bucket] != before


async def _is(store: CallStore, call_id: str, data_status: int) -> bool:
    return await data_status_of(store, call_id) == data_status


async def _has(call_ids: list[bytes], call_id: str) -> bool:
    return call_id.encode() in call_ids


REFUSALS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read-only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "short of replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_redis_that_refuses_writes_is_swept_all_the_same(
    open_on: OpenStore, own_redis: RedisProcess, refusal: str
) -> None:
    opened = await open_on(REPORT_GRACE_S=2)
    begin, end = REFUSALS[refusal]
    changes = Changes(opened.connect, opened.keys.changes)
    await SubscriptionStore(opened.settings, opened.pipeline, opened.keys).subscribe(b"awaited", b"execution")
    await opened.redis.zadd(opened.keys.indices[0][0], {"expired": 1})
    await opened.store.merge(change_from(status_update("ended", "over")))
    with changes.watch(b"changed") as watch:
        async with sweeping(opened.store, changes) as (sweep, subscribed):
            await sweep.sweep()
            await opened.store.merge(change("changed", status=1))
            ask(own_redis, *begin)
            assert await is_woken(watch, WITHIN_S)
            scan = await opened.store.scan(newest=10, takes_turns=True)
            assert (scan.missing, b"changed" in [one for _, one in scan.newest]) == ((), True)
            assert abs(sweep.clock.now_ms() - max(scan.now_ms)) < 60_000
            ask(own_redis, *end)
            subscribed.clear()
            await eventually(lambda: _has(subscribed, "awaited"), WITHIN_S)
            await eventually(lambda: _is(opened.store, "over", FAILED), WITHIN_S)


async def test_a_record_that_cannot_be_written_keeps_no_other_from_its_end(
    opened: OpenedStore, open_store: OpenStore
) -> None:
    opened = await open_store(REPORT_GRACE_S=0.05)
    broken = b"broken"
    good = next(f"good-{n}" for n in range(999) if bucket_of(b"good-%d" % n) == bucket_of(broken))
    for call_id in (broken.decode(), good):
        await opened.store.merge(change_from(status_update("ended", call_id)))
    await opened.redis.delete(opened.keys.call(broken))
    await opened.redis.set(opened.keys.call(broken), "not a record")
    changes = Changes(opened.connect, opened.keys.changes)
    async with sweeping(opened.store, changes):
        await eventually(lambda: _is(opened.store, good, FAILED), WITHIN_S)
