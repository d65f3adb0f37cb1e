"""The matrix of what is broken and where: each row sets a topology up, breaks it under load, and mends it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.support.access_log import slowest_webhook_s
from tests.support.cluster_setup import ClusterSetup
from tests.support.dead_shard import one_shard_dead, serve_partly
from tests.support.eventually import eventually
from tests.support.ledger import Ledger, find_missing, post_at_rate
from tests.support.partial_service import (
    problems_of_draining,
    problems_of_posting,
    problems_of_stats,
    problems_of_sweep,
)
from tests.support.redis_server import SURVIVES_KILL, RedisProcess
from tests.support.redis_topologies import SentinelSetup, ask
from tests.support.replica import Replica
from tests.support.slow_proxy import SlowProxyProcess
from tests.support.traffic import open_client

PER_SECOND = 100.0

ENOUGH = 60
"""Webhooks acknowledged before a fault, and after it."""

LATE_S = 0.22
"""Each way: a reply is in time, but four connections with 16 commands each would carry 145 a second."""


@dataclass(frozen=True)
class Scene:
    """What a fault may break."""

    replicas: list[Replica]
    redis: RedisProcess | SentinelSetup | ClusterSetup
    problems: list[str] = field(default_factory=list)
    """What did not go on while something was broken."""
    proxy: SlowProxyProcess | None = None

    @property
    def server(self) -> RedisProcess:
        assert isinstance(self.redis, RedisProcess)
        return self.redis


Fault = Callable[[Scene, float], Awaitable[float]]
"""Breaks, waits that many seconds, mends; returns the moment (monotonic) from which it should heal by itself."""


@dataclass(frozen=True)
class Row:
    topology: str
    fault: str
    break_it: Fault
    has_spool: bool = False
    wait_replicas: int = 0
    promises: bool = True
    """Whether nothing acknowledged may be missing."""
    per_second: float = PER_SECOND
    has_proxy: bool = False
    """Whether the replicas reach their one Redis through a proxy that can be slow."""


@dataclass(frozen=True)
class Outcome:
    row: Row
    ledger: Ledger
    missing: int
    slowest_s: float
    """By the replicas' own clocks: a client that posts so much is slow itself."""
    first_success_after_s: float
    well_after_s: float
    problems: list[str]


async def run_row(row: Row, *, broken_s: float, settled_s: float = 2.0) -> Outcome:
    """Load before, during and after the fault, then the reckoning."""
    with ExitStack() as stack:
        redis = _redis_of(row.topology)
        stack.callback(redis.stop)
        redis.start()
        proxy = None
        if row.has_proxy:
            assert isinstance(redis, RedisProcess)
            proxy = SlowProxyProcess(redis.port)
            stack.callback(proxy.stop)
        scene = stack.enter_context(set_up(row, redis, proxy))
        ledger, until = Ledger(f"ledger-{time.monotonic_ns()}"), asyncio.Event()
        load = asyncio.create_task(post_at_rate(ledger, scene.replicas, row.per_second, until))
        await acknowledges(ledger)
        mended_at = await row.break_it(scene, broken_s)
        await eventually(lambda: ledger.first_success_after_s(mended_at) < float("inf"))
        await asyncio.sleep(settled_s)  # for what ``make chaos`` measures
        await acknowledges(ledger)
        until.set()
        await load
        missing = await find_missing(ledger, scene.replicas)
        first_success_after_s, well_after_s = ledger.first_success_after_s(mended_at), ledger.well_after_s(mended_at)
        slowest_s = max(map(slowest_webhook_s, scene.replicas))
        return Outcome(row, ledger, len(missing), slowest_s, first_success_after_s, well_after_s, scene.problems)


async def acknowledges(ledger: Ledger) -> None:
    """Return when it has a good number of acknowledgements more."""
    before = len(ledger.acknowledged)
    await eventually(lambda: len(ledger.acknowledged) >= before + ENOUGH)


@contextmanager
def set_up(
    row: Row, redis: RedisProcess | SentinelSetup | ClusterSetup, proxy: SlowProxyProcess | None
) -> Iterator[Scene]:
    with ExitStack() as stack:
        replicas = []
        redis_url = redis.url if proxy is None else proxy.url
        for _ in range(2):
            spool = {"spool_dir": tempfile.mkdtemp(prefix="spool-test-")} if row.has_spool else {}
            replica = Replica(
                redis_url=redis_url, store_wait_replicas=row.wait_replicas, log_level="info", drain_s=1, **spool
            )
            stack.callback(replica.stop)
            replicas.append(replica.start())
        yield Scene(replicas, redis, proxy=proxy)


def _redis_of(topology: str) -> RedisProcess | SentinelSetup | ClusterSetup:
    if topology == "Sentinel":
        return SentinelSetup(replicas=2)
    return ClusterSetup(promotes=True) if topology == "Cluster" else RedisProcess(*SURVIVES_KILL)


# Faults


async def hang(scene: Scene, broken_s: float) -> float:
    scene.server.pause()
    await asyncio.sleep(broken_s)
    scene.server.resume()
    return time.monotonic()


async def be_late(scene: Scene, broken_s: float) -> float:
    """Redis is well, and whatever passes between it and the replicas is late."""
    assert scene.proxy is not None
    scene.proxy.delay(commands_s=LATE_S, replies_s=LATE_S)
    await asyncio.sleep(broken_s)
    scene.proxy.delay()
    return time.monotonic()


async def kill_and_restart(scene: Scene, broken_s: float) -> float:
    scene.server.kill()
    await asyncio.sleep(broken_s)
    await asyncio.to_thread(scene.server.start)
    return time.monotonic()


async def make_read_only(scene: Scene, broken_s: float) -> float:
    ask(scene.server, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(broken_s)
    ask(scene.server, "REPLICAOF", "NO", "ONE")
    return time.monotonic()


async def fill(scene: Scene, broken_s: float) -> float:
    ask(scene.server, "CONFIG", "SET", "maxmemory", "1mb")
    await asyncio.sleep(broken_s)
    ask(scene.server, "CONFIG", "SET", "maxmemory", "0")
    return time.monotonic()


async def drop_connections(scene: Scene, broken_s: float) -> float:
    deadline = time.monotonic() + broken_s
    while time.monotonic() < deadline:
        ask(scene.server, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)
    return time.monotonic()


async def kill_replica(scene: Scene, broken_s: float) -> float:
    """Of the service, without warning; the other one goes on."""
    scene.replicas[0].kill()
    await asyncio.sleep(broken_s)
    await asyncio.to_thread(scene.replicas[0].start)
    return time.monotonic()


async def restart_replicas(scene: Scene, broken_s: float) -> float:
    for replica in scene.replicas:
        await asyncio.to_thread(replica.stop)
        await asyncio.to_thread(replica.start)
    await asyncio.sleep(broken_s)
    return time.monotonic()


async def kill_master(scene: Scene, broken_s: float) -> float:
    return await _lose_master(scene, broken_s, RedisProcess.kill, RedisProcess.start)


async def hang_master(scene: Scene, broken_s: float) -> float:
    return await _lose_master(scene, broken_s, RedisProcess.pause, RedisProcess.resume)


async def cut_off_master(scene: Scene, broken_s: float) -> float:
    """From its Sentinels and replicas, not from the service."""
    assert isinstance(scene.redis, SentinelSetup)
    return await _lose_master(scene, broken_s, scene.redis.cut_off, scene.redis.rejoin)


async def _lose_master(
    scene: Scene, broken_s: float, lose: Callable[[RedisProcess], None], find: Callable[[RedisProcess], object]
) -> float:
    assert not isinstance(scene.redis, RedisProcess)
    masters = scene.redis.masters()
    lose(masters[0])
    await asyncio.to_thread(scene.redis.wait_for_promotion, masters)
    promoted_at = time.monotonic()
    await asyncio.sleep(broken_s)
    await asyncio.to_thread(find, masters[0])
    return promoted_at


async def hang_shard(scene: Scene, broken_s: float) -> float:
    """A poll of another shard's call, whose notification is lost, is woken by the sweep; stats name what is missing."""
    cluster = _cluster_of(scene)
    with one_shard_dead(cluster) as shard:
        await asyncio.sleep(broken_s)
        (call_id,) = shard.living_ids(f"lost-{time.monotonic_ns()}", 1)
        async with open_client(timeout=40) as client:
            scene.problems.extend(await problems_of_sweep(client, scene.replicas, shard.living_masters, call_id))
            scene.problems.extend(await problems_of_stats(client, scene.replicas[0], shard))
    return time.monotonic()


async def hang_shard_while_others_are_full(scene: Scene, broken_s: float) -> float:
    """What was spooled of the others is stored as soon as they have room, although the dead shard's waits."""
    cluster = _cluster_of(scene)
    with one_shard_dead(cluster) as shard:
        call_ids = shard.living_ids(f"behind-{time.monotonic_ns()}", 50)
        for node in shard.living_masters:
            ask(node, "CONFIG", "SET", "maxmemory", "1")
        async with open_client(timeout=40) as client:
            await asyncio.sleep(broken_s)
            scene.problems.extend(await problems_of_posting(client, scene.replicas[0], call_ids))
            for node in shard.living_masters:
                ask(node, "CONFIG", "SET", "maxmemory", "0")
            scene.problems.extend(await problems_of_draining(client, scene.replicas[0], call_ids))
    return time.monotonic()


def _cluster_of(scene: Scene) -> ClusterSetup:
    assert isinstance(scene.redis, ClusterSetup)
    serve_partly(scene.redis)
    return scene.redis


ROWS = [
    Row("one Redis", "Redis hangs", hang),
    Row("one Redis", "Redis hangs", hang, has_spool=True),
    Row("one Redis", "Redis is slow, 500 webhooks a second", be_late, per_second=500.0, has_proxy=True),
    Row("one Redis", "Redis is slow, 500 webhooks a second", be_late, has_spool=True, per_second=500.0, has_proxy=True),
    Row("one Redis", "Redis killed, restarted", kill_and_restart),
    Row("one Redis", "Redis killed, restarted", kill_and_restart, has_spool=True),
    Row("one Redis", "Redis is read-only", make_read_only, has_spool=True),
    Row("one Redis", "Redis is full", fill),
    Row("one Redis", "connections reset", drop_connections),
    Row("one Redis", "replica killed", kill_replica),
    Row("one Redis", "rolling restart", restart_replicas),
    Row("Sentinel", "master killed", kill_master, promises=False),
    Row("Sentinel", "master killed", kill_master, wait_replicas=1),
    Row("Sentinel", "master hangs", hang_master, wait_replicas=1, has_spool=True),
    Row("Sentinel", "master cut off", cut_off_master, promises=False),
    Row("Sentinel", "master cut off", cut_off_master, wait_replicas=1, has_spool=True),
    Row("Cluster", "master killed", kill_master, promises=False),
    Row("Cluster", "master killed", kill_master, wait_replicas=1, has_spool=True),
    Row("Cluster", "master hangs", hang_master, wait_replicas=1, has_spool=True),
    Row("Cluster", "a whole shard hangs", hang_shard),
    Row("Cluster", "a whole shard hangs, the others full", hang_shard_while_others_are_full, has_spool=True),
]
"""Redis writes its log before it answers in the rows with one Redis."""
