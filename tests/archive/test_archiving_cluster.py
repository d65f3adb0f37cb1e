"""With a Cluster, each bucket has a stream of its own: calls become rows while slots move and while a shard is dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from redis.crc import key_slot

from tests.support.archive_ledger import ArchiveUnderTest
from tests.support.cluster_setup import ClusterSetup
from tests.support.dead_shard import one_shard_dead, partly_serving_cluster
from tests.support.eventually import eventually
from tests.support.postgres_server import PostgresProcess
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE
from tests.support.slot_move import KEYS, Move, call_ids_in
from tests.support.traffic import open_client, post_despite_late_disk
from tests.support.vapi_sender import full_report

MOVING_BUCKET = 7
PHONE = "+18641234567"

StartPair = Callable[[ArchiveUnderTest], list[Replica]]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSetup]:
    with partly_serving_cluster() as cluster:
        yield cluster


@pytest.fixture
async def archive(postgres_process: PostgresProcess) -> ArchiveUnderTest:
    return await ArchiveUnderTest(postgres_process).migrate()


@pytest.fixture
def start_pair(cluster: ClusterSetup, start_replica: Callable[..., Replica], tmp_path: Path) -> StartPair:
    """Two replicas, of which one has two workers."""

    def start(archive: ArchiveUnderTest) -> list[Replica]:
        return [
            start_replica(
                redis_url=cluster.url,
                database_url=archive.url,
                workers=workers,
                spool_dir=tmp_path / f"spool-{workers}",
                log_level="warning",
            )
            for workers in (1, 2)
        ]

    return start


async def post_reports(client: httpx2.AsyncClient, pair: list[Replica], call_ids: list[str]) -> set[str]:
    """Returns the calls whose report was acknowledged."""
    posts = (
        post_despite_late_disk(client, pair[number % 2], full_report(call_id, customer={"number": PHONE}))
        for number, call_id in enumerate(call_ids)
    )
    answers = await asyncio.gather(*posts)
    return {call_id for call_id, answer in zip(call_ids, answers, strict=True) if answer.status_code == 200}


async def until_listed(
    client: httpx2.AsyncClient, replica: Replica, *, count: int, missing_buckets: list[int] | None
) -> None:
    """Return when a list of the number's calls says so."""

    async def is_said() -> bool:
        answer = await client.get(replica.url + BY_PHONE + PHONE)
        found = answer.json()
        return answer.status_code == 200 and (found["count"], found.get("missing_buckets")) == (count, missing_buckets)

    await eventually(is_said)


async def test_calls_become_rows_while_their_slot_moves(
    client: httpx2.AsyncClient, cluster: ClusterSetup, archive: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(archive)
    move = await asyncio.to_thread(Move, cluster, key_slot(KEYS.probes[MOVING_BUCKET]))
    everywhere = [f"anywhere-{number}" for number in range(64)]
    before, during, after = (call_ids_in(MOVING_BUCKET, prefix, 20) for prefix in ("before", "during", "after"))

    acknowledged = await post_reports(client, pair, everywhere + before)
    await asyncio.to_thread(move.begin)
    acknowledged |= await post_reports(client, pair, during)
    await asyncio.to_thread(move.carry)
    acknowledged |= await post_reports(client, pair, during)
    await asyncio.to_thread(move.finish)
    acknowledged |= await post_reports(client, pair, after)

    assert acknowledged == {*everywhere, *before, *during, *after}
    await archive.until_archived(acknowledged)


async def test_calls_of_living_shards_become_rows_while_another_is_dead_and_its_own_afterwards(
    client: httpx2.AsyncClient, cluster: ClusterSetup, archive: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(archive)
    with one_shard_dead(cluster) as shard:
        living, dead = shard.living_ids("living", 40), shard.dead_ids("dead", 20)
        assert await post_reports(client, pair, living + dead) == {*living, *dead}
        await archive.until_archived(living)
        await until_listed(client, pair[0], count=40, missing_buckets=[*shard.buckets])
    await asyncio.to_thread(cluster.wait_until_whole)
    await archive.until_archived(dead)
    await until_listed(client, pair[0], count=60, missing_buckets=None)
