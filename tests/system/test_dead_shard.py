"""One of a Cluster's shards is dead: whatever concerns the others goes on, and what is missing is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.cluster_setup import ClusterSetup
from tests.support.dead_shard import DeadShard, one_shard_dead, partly_serving_cluster
from tests.support.eventually import eventually
from tests.support.redis_topologies import ask
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE
from tests.support.traffic import get_when_served, post_webhook, until_readable
from tests.support.vapi_sender import full_report

STATS = "/api/v1/vapi/cache/stats?limit=100"
PHONE = "+18645550123"
WITHIN_S = 30.0

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
        ready = [(await client.get(replica.url + "/health/ready")).status_code for _ in range(20)]
        assert set(ready) == {200}
        health = await client.get(replica.url + "/health")
        assert (health.status_code, health.json()["status"]) == (health_status, "degraded")
        redis = health.json()["dependencies"]["redis"]
        states = {address: master["status"] for address, master in redis["masters"].items()}
        assert redis["status"] == "degraded"
        assert sorted(states.values()) == ["down", "ok", "ok"]
        assert states[shard.address] == "down"


async def test_ready_is_answered_without_waiting_for_the_dead_master(
    client: httpx2.AsyncClient, shard: DeadShard, begin: Start
) -> None:
    """By the service's own clock; one that waited would need all of the store's timeout for each."""
    assert shard.buckets
    replica = begin(store_timeout_s=1.2)
    await client.get(replica.url + "/health/ready")
    for _ in range(10):
        await client.get(replica.url + "/health/ready")
        await asyncio.sleep(0.25)  # the last probe is not valid any more
    seconds = await _seconds_of(client, replica, "/health/ready")
    assert seconds < 11 * 1.2 / 2


async def _seconds_of(client: httpx2.AsyncClient, replica: Replica, route: str) -> float:
    text = (await client.get(replica.url + "/metrics")).text
    wanted = f'http_request_seconds_total{{route="{route}"}}'
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(wanted))


async def test_stats_and_lists_answer_for_the_living_shards_and_name_the_missing_buckets(
    client: httpx2.AsyncClient, cluster: ClusterSetup, begin: Start
) -> None:
    replica = begin()
    with one_shard_dead(cluster) as shard:
        pass
    cluster.wait_until_whole()
    living, dead = shard.living_ids("listed", 20), shard.dead_ids("listed", 10)
    for call_id in (*living, *dead):
        assert (
            await post_webhook(client, replica, full_report(call_id, customer={"number": PHONE}))
        ).status_code == 200
    with one_shard_dead(cluster) as shard:
        stats = (await get_when_served(client, replica.url + STATS)).json()["stats"]
        listed = (await get_when_served(client, f"{replica.url}{BY_PHONE}{PHONE}?limit=100")).json()
    cluster.wait_until_whole()

    assert (stats["size"], {entry["callId"] for entry in stats["entries"]}) == (20, {*living})
    assert stats["missing_buckets"] == [*shard.buckets]
    assert stats["webhooks"] is None, "nobody can say: the counts are in the dead shard"
    assert (listed["count"], {call["call_id"] for call in listed["data"]}) == (20, {*living})
    assert listed["missing_buckets"] == [*shard.buckets]

    async def is_whole() -> bool:
        stats = (await client.get(replica.url + STATS)).json()["stats"]
        return stats["size"] == 30 and "missing_buckets" not in stats and stats["webhooks"] is not None

    await eventually(is_whole, WITHIN_S)


async def test_what_living_shards_take_leaves_the_spool_while_another_is_dead(
    client: httpx2.AsyncClient, cluster: ClusterSetup, begin: Start, tmp_path: Path
) -> None:
    replica = begin(spool_dir=tmp_path, store_timeout_s=0.5)

    async def send(call_id: str) -> None:
        """Again while the disk is too late, as a busy one may be for some of 300 at once. No other refusal is right."""

        async def is_taken() -> bool:
            answer = await post_webhook(client, replica, full_report(call_id))
            assert answer.status_code == 200 or "disk does not answer" in answer.json()["error"], answer.text
            return answer.status_code == 200

        await eventually(is_taken, WITHIN_S)

    with one_shard_dead(cluster) as shard:
        others = shard.living_masters
        dead, living = shard.dead_ids("spooled", 300), shard.living_ids("spooled", 100)
        for node in others:
            ask(node, "CONFIG", "SET", "maxmemory", "1")
        for call_ids in (dead, living):
            await asyncio.gather(*map(send, call_ids))
        for node in others:
            ask(node, "CONFIG", "SET", "maxmemory", "0")

        await until_readable(client, replica, living, WITHIN_S)
    cluster.wait_until_whole()
    await until_readable(client, replica, dead, WITHIN_S)
