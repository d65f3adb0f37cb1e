"""Redis fails over, or dies and comes back, while PostgreSQL hangs: every acknowledged call is still a row in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.archive_ledger import ArchiveUnderTest, until_acknowledged
from tests.support.eventually import eventually
from tests.support.ledger import Ledger, post_at_rate
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup
from tests.support.replica import Replica

PER_SECOND = 40.0


@pytest.fixture
def sentinels() -> Iterator[SentinelSetup]:
    setup = SentinelSetup()
    try:
        yield setup.start()
    finally:
        setup.stop()


@pytest.fixture
def durable_redis() -> Iterator[RedisProcess]:
    """Keeps what it has acknowledged when it is killed. When the machine is, it may not, and does not wait for the disk."""
    server = RedisProcess("--appendonly", "yes", "--appendfsync", "no").start()
    yield server
    server.stop()


async def test_a_failover_while_the_database_hangs_misses_no_acknowledged_call(
    sentinels: SentinelSetup, own_postgres: PostgresProcess, start_replica: Callable[..., Replica], tmp_path: Path
) -> None:
    archive = await ArchiveUnderTest(own_postgres).migrate()
    pair = [
        start_replica(
            redis_url=sentinels.url,
            store_wait_replicas=1,
            spool_dir=tmp_path / f"spool-{number}",
            database_url=archive.url,
        )
        for number in range(2)
    ]
    ledger, is_over = Ledger("failover"), asyncio.Event()
    posting = asyncio.create_task(post_at_rate(ledger, pair, PER_SECOND, is_over))

    await until_acknowledged(ledger, 30)
    own_postgres.pause()
    await until_acknowledged(ledger, 20)
    before = sentinels.masters()
    await asyncio.to_thread(before[0].kill)
    await asyncio.to_thread(sentinels.wait_for_promotion, before)
    await until_acknowledged(ledger, 30)
    await asyncio.to_thread(before[0].start)  # the others acknowledge nothing without a replica
    own_postgres.resume()
    is_over.set()
    await posting

    await archive.until_archived(ledger.acknowledged)


async def test_a_redis_killed_with_changes_that_wait_for_the_database_keeps_them(
    durable_redis: RedisProcess, own_postgres: PostgresProcess, start_replica: Callable[..., Replica]
) -> None:
    archive = await ArchiveUnderTest(own_postgres).migrate()
    replica = start_replica(redis_url=durable_redis.url, database_url=archive.url)
    ledger, is_over = Ledger("aof"), asyncio.Event()
    posting = asyncio.create_task(post_at_rate(ledger, [replica], PER_SECOND, is_over))

    await until_acknowledged(ledger, 10)
    own_postgres.kill()
    await until_acknowledged(ledger, 30)
    durable_redis.kill()
    refused = ledger.refused
    await eventually(lambda: ledger.refused > refused + 10)
    await asyncio.to_thread(durable_redis.start)
    await asyncio.to_thread(own_postgres.start)
    is_over.set()
    await posting

    await archive.until_archived(ledger.acknowledged)
