"""What the doctor says about a Redis that is set up wrongly, slow, or away. Each fault is a real one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose, diagnose_meanwhile, diagnose_until
from tests.support.ports import free_port
from tests.support.redis_server import RedisProcess, free_cluster_port
from tests.support.redis_topologies import SYNC_AT_ONCE, ask, wait_until
from tests.support.slow_proxy import SlowProxy

WELL: dict[str, str] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory": str(512 * 1024 * 1024),
    "maxmemory-policy": "noeviction",
    "min-replicas-to-write": "0",
}
"""As deploy/redis.conf has it."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    server = RedisProcess().start()
    yield server
    server.kill()  # it would not stop while it writes its first AOF


@pytest.fixture
def redis(server: RedisProcess) -> RedisProcess:
    """One that is well; each test spoils it."""
    ask(server, "CONFIG", "SET", *(word for pair in WELL.items() for word in pair))
    return server


def diagnose_redis(redis: RedisProcess, **settings: Any) -> Diagnosis:
    return diagnose("--url", NOBODY_THERE, **{"redis_url": redis.url, **settings})


def test_a_redis_as_we_ship_it_is_well(redis: RedisProcess) -> None:
    diagnosis = diagnose_until(lambda found: found.level("redis", "latency") == "ok", lambda: diagnose_redis(redis))
    assert diagnosis.troubles("redis") == []
    checks = ["reachable", "version", "topology", "eviction", "memory", "persistence", "replicas"]
    assert [each.check for each in diagnosis.of("redis")] == [*checks, "latency", "clock", "rights"]


def test_nothing_is_left_in_it(redis: RedisProcess) -> None:
    redis.client.flushall()
    diagnose_redis(redis, redis_key_prefix="trace")
    kept = [str(key) for key in redis.client.scan_iter()]
    assert [key for key in kept if not re.fullmatch(r"b'trace:\{\d+\}:probe'", key)] == []
    assert all(redis.client.pttl(key) > 0 for key in redis.client.scan_iter())


@pytest.mark.parametrize(
    ("spoiled", "check", "level", "word"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "eviction", "error", "allkeys-lru"),
        ({"maxmemory-policy": "volatile-ttl", "maxmemory": "0"}, "eviction", "warning", "volatile-ttl"),
        ({"maxmemory": "0"}, "memory", "warning", "not set"),
        ({"maxmemory": "1200000"}, "memory", "warning", "used"),
        ({"appendonly": "no"}, "persistence", "error", "restart of Redis"),
        ({"appendfsync": "no"}, "persistence", "warning", "power loss"),
        ({"min-replicas-to-write": "1"}, "replicas", "error", "every write is refused"),
    ],
)
def test_a_wrong_setting_is_found(
    redis: RedisProcess, spoiled: dict[str, str], check: str, level: str, word: str
) -> None:
    ask(redis, "CONFIG", "SET", *(each for pair in spoiled.items() for each in pair))
    diagnosis = diagnose_redis(redis)
    found = diagnosis.one("redis", check)
    assert (found.level, word in found.found) == (level, True), found
    assert diagnosis.status == 2  # nobody serves


def test_replicas_that_are_waited_for_and_not_there_are_missed(redis: RedisProcess) -> None:
    diagnosis = diagnose_redis(redis, store_wait_replicas=1)
    assert diagnosis.troubles("redis") == ["reachable: error", "replicas: error"]
    assert "STORE_WAIT_REPLICAS is 1" in diagnosis.one("redis", "replicas").found


def test_a_replica_that_nobody_waits_for_is_pointed_out_and_is_no_master(redis: RedisProcess) -> None:
    replica = RedisProcess("--replicaof", f"127.0.0.1 {redis.port}", *SYNC_AT_ONCE).start()
    try:
        wait_until(lambda: replica.client.role()[3] == b"connected", "the replica did not join")
        unconfirmed = diagnose_redis(redis).one("redis", "replicas")
        # A replica that has just joined may confirm a first write too late.
        all_must = ["replicas: warning"]
        wait_until(
            lambda: diagnose_redis(redis, store_wait_replicas=1).troubles("redis") == all_must, "it is not enough"
        )
        of_replica = diagnose_redis(replica, store_timeout_s=1.2)
    finally:
        replica.stop()
    assert (unconfirmed.level, "failover" in unconfirmed.found) == ("warning", True)
    assert "leads to a replica" in of_replica.one("redis", "topology").found


def test_a_node_of_a_cluster_behind_the_address_of_one_server_is_recognised() -> None:
    node = RedisProcess("--cluster-enabled", "yes", port=free_cluster_port()).start()
    try:
        found = diagnose_redis(node).one("redis", "topology")
    finally:
        node.stop()
    assert (found.level, "redis+cluster://" in str(found.advice)) == ("error", True)


def test_one_server_behind_the_address_of_a_cluster_is_recognised(redis: RedisProcess) -> None:
    diagnosis = diagnose_redis(redis, redis_url=f"redis+cluster://127.0.0.1:{redis.port}")
    found = diagnosis.one("redis", "reachable")
    assert (found.level, "is not a Cluster" in found.found) == ("error", True)


def test_a_redis_that_is_away_is_one_error_and_hides_nothing_else() -> None:
    diagnosis = diagnose("--url", NOBODY_THERE, redis_url=f"redis://127.0.0.1:{free_port()}", store_timeout_s=0.3)
    assert diagnosis.troubles("redis") == ["reachable: error"]
    assert len(diagnosis.of("redis")) == 1
    assert {part for part, _ in diagnosis.findings} == {
        "settings",
        "redis",
        "archive",
        "spool",
        "vapi",
        "kestra",
        "callbacks",
        "service",
    }
    assert diagnosis.status == 2


def test_a_redis_that_hangs_is_one_error(redis: RedisProcess) -> None:
    redis.pause()
    try:
        diagnosis = diagnose_redis(redis, store_timeout_s=0.3)
    finally:
        redis.resume()
    assert [(each.check, each.level) for each in diagnosis.of("redis")] == [("reachable", "error")]


def test_a_redis_that_takes_longer_than_a_check_may_is_one_error(redis: RedisProcess) -> None:
    redis.pause()
    try:
        diagnosis = diagnose("--url", NOBODY_THERE, "--timeout", "0.3", redis_url=redis.url)
    finally:
        redis.resume()
    assert [(each.check, each.level) for each in diagnosis.of("redis")] == [("reachable", "error")]


def test_a_wrong_password_is_not_repeated(redis: RedisProcess) -> None:
    diagnosis = diagnose_redis(
        redis, redis_url=f"redis://somebody:not-this-one@127.0.0.1:{redis.port}", store_timeout_s=0.3
    )
    assert diagnosis.troubles("redis") == ["reachable: error"]
    assert "not-this-one" not in diagnosis.printed


@pytest.mark.parametrize(("delay_s", "level"), [(0.02, "warning"), (0.14, "error")])
async def test_a_slow_redis_is_measured(redis: RedisProcess, delay_s: float, level: str) -> None:
    async with SlowProxy(redis.port) as proxy:
        proxy.replies_s = delay_s
        settings = {"redis_url": proxy.url, "store_timeout_s": 1.2}
        diagnosis = await diagnose_meanwhile("--url", NOBODY_THERE, "--timeout", "60", **settings)
    assert diagnosis.level("redis", "latency") == level


@pytest.mark.parametrize(("ahead_s", "level"), [(-20, "warning"), (600, "error")])
async def test_a_clock_that_is_off_is_found(redis: RedisProcess, ahead_s: int, level: str) -> None:
    def shift(replies: bytes) -> bytes:
        """The reply to TIME: seconds and microseconds."""
        return re.sub(rb"(\*2\r\n\$10\r\n)(\d{10})", lambda time: time[1] + b"%d" % (int(time[2]) + ahead_s), replies)

    async with SlowProxy(redis.port) as proxy:
        proxy.edit = shift
        diagnosis = await diagnose_meanwhile("--url", NOBODY_THERE, redis_url=proxy.url)
    found = diagnosis.one("redis", "clock")
    assert (found.level, f"{abs(ahead_s)}.0 s {'ahead' if ahead_s > 0 else 'behind'}" in found.found) == (level, True)


async def test_an_old_redis_is_found(redis: RedisProcess) -> None:
    async with SlowProxy(redis.port) as proxy:
        proxy.edit = lambda replies: re.sub(rb"redis_version:\d", b"redis_version:6", replies)
        diagnosis = await diagnose_meanwhile("--url", NOBODY_THERE, redis_url=proxy.url)
    assert diagnosis.troubles("redis") == ["version: error"]


def test_the_embedded_store_is_pointed_out() -> None:
    assert diagnose("--url", NOBODY_THERE).troubles("redis") == ["store: warning"]
