"""The matrix of what is broken and where: each row sets a topology up, breaks it under load, and mends it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.outage.ledger import Ledger, find_missing, post_at_rate
from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ClusterSetup, SentinelSetup, ask
from tests.support.replica import Replica

PER_SECOND = 100.0

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(frozen=True)
class Scene:
    """What a fault may break."""

    replicas: list[Replica]
    redis: RedisProcess | SentinelSetup | ClusterSetup

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


@dataclass(frozen=True)
class Outcome:
    row: Row
    ledger: Ledger
    missing: int
    first_success_after_s: float
    well_after_s: float


async def run_row(row: Row, *, broken_s: float, settled_s: float = 2.0) -> Outcome:
    """Load before, during and after the fault, then the reckoning."""
    with set_up(row) as scene:
        ledger, until = Ledger(f"ledger-{time.monotonic_ns()}"), asyncio.Event()
        load = asyncio.create_task(post_at_rate(ledger, scene.replicas, PER_SECOND, until))
        await asyncio.sleep(1.0)
        mended_at = await row.break_it(scene, broken_s)
        await eventually(lambda: ledger.first_success_after_s(mended_at) < float("inf"))
        await asyncio.sleep(settled_s)
        until.set()
        await load
        missing = await find_missing(ledger, scene.replicas)
        return Outcome(
            row, ledger, len(missing), ledger.first_success_after_s(mended_at), ledger.well_after_s(mended_at)
        )


@contextmanager
def set_up(row: Row) -> Iterator[Scene]:
    with ExitStack() as stack:
        redis = _redis_of(row.topology)
        stack.callback(redis.stop)
        redis.start()
        replicas = []
        for _ in range(2):
            spool = {"spool_dir": tempfile.mkdtemp(prefix="spool-test-")} if row.has_spool else {}
            replica = Replica(
                redis_url=redis.url, store_wait_replicas=row.wait_replicas, log_level="warning", drain_s=1, **spool
            )
            stack.callback(replica.stop)
            replicas.append(replica.start())
        yield Scene(replicas, redis)


def _redis_of(topology: str) -> RedisProcess | SentinelSetup | ClusterSetup:
    if topology == "Sentinel":
        return SentinelSetup(replicas=2)
    return ClusterSetup() if topology == "Cluster" else RedisProcess(*DURABLE)


# Faults


async def hang(scene: Scene, broken_s: float) -> float:
    scene.server.pause()
    await asyncio.sleep(broken_s)
    scene.server.resume()
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


ROWS = [
    Row("one Redis", "Redis hangs", hang),
    Row("one Redis", "Redis hangs", hang, has_spool=True),
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
    Row("Cluster", "master killed", kill_master, promises=False),
    Row("Cluster", "master killed", kill_master, wait_replicas=1, has_spool=True),
    Row("Cluster", "master hangs", hang_master, wait_replicas=1, has_spool=True),
]
"""Redis writes its log before it answers (``appendfsync always``) in the rows with one Redis."""
