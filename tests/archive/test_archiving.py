"""Replicas write what they take to PostgreSQL: each call is a row soon after, and nothing acknowledged is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from tests.support.archive_ledger import ArchiveUnderTest
from tests.support.eventually import eventually
from tests.support.ledger import Ledger, post_at_rate
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.traffic import get_call, open_client, post_webhook
from tests.support.vapi_sender import full_report, message, status_update

StartPair = Callable[..., list[Replica]]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture
async def shared(postgres_process: PostgresProcess) -> ArchiveUnderTest:
    return await ArchiveUnderTest(postgres_process).migrate()


@pytest.fixture
async def own(own_postgres: PostgresProcess) -> ArchiveUnderTest:
    return await ArchiveUnderTest(own_postgres).migrate()


@pytest.fixture
def start_pair(redis_process: RedisProcess, start_replica: Callable[..., Replica]) -> StartPair:
    def start(archive: ArchiveUnderTest, *, count: int = 2, **settings: object) -> list[Replica]:
        prefix = f"archiving-{archive.server.port}-{archive.database}"
        usual: dict[str, Any] = {
            "redis_url": redis_process.url, "redis_key_prefix": prefix, "database_url": archive.url,
            "log_level": "warning",
        }  # fmt: skip
        return [start_replica(**usual | settings) for _ in range(count)]

    return start


async def health_of(client: httpx2.AsyncClient, replica: Replica) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(replica.url + "/health")).json()
    return body


async def archive_stats(client: httpx2.AsyncClient, replica: Replica) -> dict[str, Any]:
    stats: dict[str, Any] = (await client.get(replica.url + "/api/v1/vapi/cache/stats")).json()["stats"]["archive"]
    return stats


async def test_two_replicas_write_the_same_calls_at_once_and_each_is_one_whole_row(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(shared)
    call_ids = [f"call-{number}" for number in range(40)]

    async def post_all(body: Callable[[str], dict[str, Any]], replica: Replica) -> None:
        await asyncio.gather(*(post_webhook(client, replica, body(call_id)) for call_id in call_ids))

    await asyncio.gather(
        post_all(lambda call_id: status_update("ended", call_id), pair[0]),
        post_all(full_report, pair[1]),
        post_all(lambda call_id: full_report(call_id, cost=0.5, timestamp=9e12), pair[0]),
    )
    await shared.until_archived(call_ids)

    async def have_the_last_cost() -> bool:
        return (
            await shared.ask("SELECT count(*), min(cost)::float, max(cost)::float FROM vapi_call_results")
            == "40|0.5|0.5"
        )

    await eventually(have_the_last_cost)

    async def is_nothing_left() -> bool:
        stats = await archive_stats(client, pair[0])
        return (stats["backlog"], stats["written"] >= 40) == (0, True)

    await eventually(is_nothing_left)
    assert (await health_of(client, pair[0]))["dependencies"]["archive"]["status"] == "ok"


async def test_a_database_that_is_killed_and_hung_under_load_misses_no_acknowledged_call(
    own: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(own)
    ledger, is_over = Ledger("ledger"), asyncio.Event()
    posting = asyncio.create_task(post_at_rate(ledger, pair, 60.0, is_over))

    await asyncio.sleep(1.5)
    own.server.kill()
    await asyncio.sleep(1.5)
    await asyncio.to_thread(own.server.start)
    await asyncio.sleep(1.5)
    own.server.pause()
    await asyncio.sleep(1.5)
    own.server.resume()
    pair[1].kill()
    is_over.set()
    await posting

    assert ledger.refused == 0
    assert len(ledger.acknowledged) > 100
    await own.until_archived(ledger.acknowledged)


async def test_records_outlive_a_database_that_is_away_for_longer_than_they_live(
    client: httpx2.AsyncClient, own: ArchiveUnderTest, start_pair: StartPair
) -> None:
    (replica,) = start_pair(own, count=1, result_ttl_s=2)
    own.server.kill()
    assert (await post_webhook(client, replica, full_report("early"))).status_code == 200

    async def is_known_to_be_down() -> bool:
        health = await health_of(client, replica)
        return (health["status"], health["dependencies"]["archive"]["status"]) == ("degraded", "down")

    await eventually(is_known_to_be_down)
    await asyncio.sleep(3)
    assert (await get_call(client, replica, "early")).status_code == 200
    assert (await client.get(replica.url + "/health")).status_code == 200

    await asyncio.to_thread(own.server.start)
    await own.until_archived(["early"])

    async def is_gone_from_redis() -> bool:
        stats = (await client.get(replica.url + "/api/v1/vapi/cache/stats")).json()["stats"]
        return bool(stats["size"] == 0)

    await eventually(is_gone_from_redis)


@pytest.mark.parametrize("has_row", [True, False], ids=["after it was a row", "before"])
async def test_a_deleted_call_stays_deleted_also_for_later_messages(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair, *, has_row: bool
) -> None:
    pair = start_pair(shared, result_ttl_s=1)
    await post_webhook(client, pair[0], full_report("deleted"))
    if has_row:
        await shared.until_archived(["deleted"])
    assert (await client.delete(f"{pair[1].url}{CALLS}deleted")).status_code == 200

    async def is_tombstone_over() -> bool:
        return (await get_call(client, pair[0], "deleted", wait="0")).status_code == 202

    await eventually(is_tombstone_over)
    await post_webhook(client, pair[0], full_report("deleted"))
    await post_webhook(client, pair[0], full_report("later"))
    await shared.until_archived(["later"])

    async def is_written() -> bool:
        return bool((await archive_stats(client, pair[0]))["backlog"] == 0)

    await eventually(is_written)
    assert await shared.ask("SELECT call_id FROM vapi_call_results") == "later"


async def test_a_row_loses_what_was_said_when_vapi_deletes_the_call(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair
) -> None:
    (replica,) = start_pair(shared, count=1)
    await post_webhook(client, replica, full_report("call-1"))
    await shared.until_archived(["call-1"])

    await post_webhook(client, replica, message("call.deleted", "call-1"))

    async def has_lost_it() -> bool:
        lost = "transcript IS NULL AND messages IS NULL AND recording_url IS NULL AND analysis_summary IS NULL"
        return await shared.ask(f"SELECT {lost}, status FROM vapi_call_results") == "t|ended"

    await eventually(has_lost_it)


async def test_a_replica_that_stops_leaves_nothing_for_which_others_have_to_wait(
    client: httpx2.AsyncClient, own: ArchiveUnderTest, start_pair: StartPair
) -> None:
    first, second = start_pair(own)
    own.server.pause()
    call_ids = [f"call-{number}" for number in range(30)]
    for call_id in call_ids:
        await post_webhook(client, first, full_report(call_id))

    first.terminate()
    assert first.wait() == 0
    own.server.resume()

    await own.until_archived(call_ids, within_s=25.0)  # less than what a dead replica's entries would wait
    assert (await archive_stats(client, second))["refused"] == []


async def test_what_waits_is_given_up_before_redis_is_full_and_no_webhook_is_refused(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    small = RedisProcess("--maxmemory", "24mb", "--maxmemory-policy", "noeviction").start()
    try:
        nobody = "postgresql://nobody@127.0.0.1:9/nothing"
        replica = start_replica(redis_url=small.url, database_url=nobody, result_ttl_s=1, log_level="error")
        said = {"transcript": "User: " + "word " * 10_000}
        refused = 0

        async def has_given_up() -> bool:
            nonlocal refused
            answers = [await post_webhook(client, replica, full_report(f"call-{n}", artifact=said)) for n in ids()]
            refused += sum(answer.status_code != 200 for answer in answers)
            return int((await archive_stats(client, replica))["given_up"]) > 100

        numbers = iter(range(10_000))

        def ids() -> list[int]:
            return [next(numbers) for _ in range(10)]

        await eventually(has_given_up)
        assert refused == 0
        assert small.client.info("memory")["used_memory"] < 24 * 1024 * 1024
        assert "redis is nearly full" in replica.log
    finally:
        small.stop()
