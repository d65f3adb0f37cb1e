"""One of a Cluster's shards is dead: whatever concerns the others goes on, and what is missing is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import pytest

from tests.support.access_log import answers_of, log_length
from tests.support.cluster_setup import ClusterSetup
from tests.support.dead_shard import DeadShard, one_shard_dead, partly_serving_cluster, shard_of
from tests.support.eventually import eventually
from tests.support.redis_topologies import ask
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, STATS
from tests.support.traffic import get_when_served, post_despite_late_disk, post_until_taken, until_readable
from tests.support.vapi_sender import full_report

PHONE = "+18645550123"
STORE_TIMEOUT_S = 1.2

Start = Callable[..., Replica]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSetup]:
    with partly_serving_cluster() as cluster:
        yield cluster


@pytest.fixture
def shard(cluster: ClusterSetup) -> Iterator[DeadShard]:
    """The one with bucket 0, where the counts of all replicas are."""
    with one_shard_dead(cluster) as shard:
        yield shard
    cluster.wait_until_whole()


@pytest.fixture
def begin(cluster: ClusterSetup, start_replica: Start, request: pytest.FixtureRequest) -> Start:
    """Starts replicas on the Cluster, with keys of the test's own."""
    prefix = f"{request.node.name[:40]}-{time.monotonic_ns()}"
    return lambda **settings: start_replica(redis_url=cluster.url, redis_key_prefix=prefix, **settings)


async def test_readiness_is_at_once_and_health_names_the_missing_master(
    client: httpx2.AsyncClient, shard: DeadShard, begin: Start, tmp_path: Path
) -> None:
    for settings, health_status in (({}, 503), ({"spool_dir": tmp_path}, 200)):
        replica = begin(**settings)

        async def is_told(replica: Replica = replica, health_status: int = health_status) -> bool:
            """A living master may be late in one look."""
            ready = [(await client.get(replica.url + "/health/ready")).status_code for _ in range(20)]
            health = await client.get(replica.url + "/health")
            redis = health.json()["dependencies"]["redis"]
            states = {address: master["status"] for address, master in redis.get("masters", {}).items()}
            return (
                set(ready) == {200}
                and (health.status_code, health.json()["status"], redis["status"])
                == (health_status, "degraded", "degraded")
                and sorted(states.values()) == ["down", "ok", "ok"]
                and states.get(shard.address) == "down"
            )

        await eventually(is_told)


async def test_ready_is_answered_without_waiting_for_the_dead_master(
    client: httpx2.AsyncClient, shard: DeadShard, begin: Start
) -> None:
    """By the service's own clock; those that waited would each take all of the store's timeout."""
    assert shard.buckets
    replica = begin(store_timeout_s=STORE_TIMEOUT_S, log_level="debug")

    async def most_do_not_wait() -> bool:
        since = await log_length(replica)
        for _ in range(10):
            await client.get(replica.url + "/health/ready")
            await asyncio.sleep(0.25)  # the last probe is not valid any more
        answers = await answers_of(replica, 10, lambda answer: answer["route"] == "/health/ready", since=since)
        return bool(median(answer["duration_ms"] for answer in answers) < STORE_TIMEOUT_S * 1000 / 2)

    await eventually(most_do_not_wait)


async def test_stats_and_lists_answer_for_the_living_shards_and_name_the_missing_buckets(
    client: httpx2.AsyncClient, cluster: ClusterSetup, begin: Start
) -> None:
    replica = begin(store_timeout_s=STORE_TIMEOUT_S)
    shard = shard_of(cluster, 0)
    living, dead = shard.living_ids("listed", 20), shard.dead_ids("listed", 10)
    for call_id in (*living, *dead):
        await post_until_taken(client, replica, full_report(call_id, customer={"number": PHONE}))

    async def stats() -> dict[str, Any]:
        answer = await get_when_served(client, replica.url + STATS, {"limit": "100"})
        found: dict[str, Any] = answer.json()["stats"]
        return found

    async def are_partial() -> bool:
        """A living shard may be late in one look."""
        seen = await stats()
        listed = (await get_when_served(client, f"{replica.url}{BY_PHONE}{PHONE}", {"limit": "100"})).json()
        assert seen["webhooks"] is None, "nobody can say: the counts are in the dead shard"
        assert {*seen["missing_buckets"]} >= {*shard.buckets} <= {*listed["missing_buckets"]}
        return (
            seen["missing_buckets"] == listed["missing_buckets"] == [*shard.buckets]
            and (seen["size"], {entry["callId"] for entry in seen["entries"]}) == (20, {*living})
            and (listed["count"], {call["call_id"] for call in listed["data"]}) == (20, {*living})
        )

    with one_shard_dead(cluster):
        await eventually(are_partial)
    cluster.wait_until_whole()

    async def is_whole() -> bool:
        seen = await stats()
        return seen["size"] == 30 and "missing_buckets" not in seen and seen["webhooks"] is not None

    await eventually(is_whole)


async def test_what_living_shards_take_leaves_the_spool_while_another_is_dead(
    client: httpx2.AsyncClient, cluster: ClusterSetup, begin: Start, tmp_path: Path
) -> None:
    replica = begin(spool_dir=tmp_path, store_timeout_s=0.5)

    async def send(call_id: str) -> None:
        answer = await post_despite_late_disk(client, replica, full_report(call_id))
        assert answer.status_code == 200, answer.text

    with one_shard_dead(cluster) as shard:
        others = shard.living_masters
        dead, living = shard.dead_ids("spooled", 300), shard.living_ids("spooled", 100)
        for node in others:
            ask(node, "CONFIG", "SET", "maxmemory", "1")
        for call_ids in (dead, living):
            await asyncio.gather(*map(send, call_ids))
        for node in others:
            ask(node, "CONFIG", "SET", "maxmemory", "0")

        await until_readable(client, replica, living)
    cluster.wait_until_whole()
    await until_readable(client, replica, dead)
