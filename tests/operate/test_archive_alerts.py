"""Alerts about the archive: each fires by its fault and is over when the fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.support.archive_ledger import ArchiveUnderTest
from tests.support.postgres_server import PostgresProcess
from tests.support.prometheus_server import Watch
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.traffic import post_webhook
from tests.support.vapi_sender import full_report


@pytest.fixture
def own_postgres() -> Iterator[PostgresProcess]:
    server = PostgresProcess().start()
    yield server
    server.remove()


async def test_a_database_that_is_away_and_one_that_refuses_a_call(
    client: httpx2.AsyncClient,
    own_redis: RedisProcess,
    own_postgres: PostgresProcess,
    start_replica: Callable[..., Replica],
    watch: Watch,
) -> None:
    archive = await ArchiveUnderTest(own_postgres).migrate()
    await archive.ask("ALTER TABLE vapi_call_results ADD CHECK (call_id <> 'refused')")
    replica = start_replica(redis_url=own_redis.url, database_url=archive.url)
    prometheus = watch(replica)

    await post_webhook(client, replica, full_report("refused"))
    await post_webhook(client, replica, full_report("taken"))
    await archive.until_archived(["taken"])
    await prometheus.fires("VapiArchiveIncomplete")
    stats = (await client.get(replica.url + "/api/v1/vapi/cache/stats")).json()["stats"]["archive"]
    assert [(refused["callId"], "23514" in refused["reason"]) for refused in stats["refused"]] == [("refused", True)]

    own_postgres.kill()
    await prometheus.fires("VapiArchiveBehind")
    own_postgres.start()
    await prometheus.is_quiet("VapiArchiveBehind")
