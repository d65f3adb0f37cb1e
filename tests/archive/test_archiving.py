"""Replicas write what they take to PostgreSQL: each call is a row soon after, and nothing acknowledged is missing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from redis.exceptions import ResponseError

from service.store.archive_stream import GROUP, TAKEN_OVER_AFTER_MS
from service.store.keys import Keys
from tests.support.archive_ledger import ArchiveUnderTest, until_acknowledged
from tests.support.eventually import eventually
from tests.support.ledger import Ledger, post_at_rate
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.traffic import get_call, get_stats, get_when_served, open_client, post_until_taken
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


def prefix_of(archive: ArchiveUnderTest) -> str:
    """Of the keys in Redis; no other test has it."""
    return f"archiving-{archive.server.port}-{archive.database}"


@pytest.fixture
def start_pair(redis_process: RedisProcess, start_replica: Callable[..., Replica]) -> StartPair:
    def start(archive: ArchiveUnderTest, *, count: int = 2, **settings: object) -> list[Replica]:
        usual: dict[str, Any] = {
            "redis_url": redis_process.url, "redis_key_prefix": prefix_of(archive), "database_url": archive.url,
            "store_timeout_s": 1.2, "log_level": "warning",
        }  # fmt: skip
        return [start_replica(**usual | settings) for _ in range(count)]

    return start


async def health_of(client: httpx2.AsyncClient, replica: Replica) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(replica.url + "/health")).json()
    return body


async def archive_stats(client: httpx2.AsyncClient, replica: Replica) -> dict[str, Any]:
    stats: dict[str, Any] = (await get_stats(client, replica.url))["archive"]
    return stats


async def test_two_replicas_write_the_same_calls_at_once_and_each_is_one_whole_row(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(shared)
    call_ids = [f"call-{number}" for number in range(40)]

    async def post_all(body: Callable[[str], dict[str, Any]], replica: Replica) -> None:
        await asyncio.gather(*(post_until_taken(client, replica, body(call_id)) for call_id in call_ids))

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
        stats, health = await archive_stats(client, pair[0]), await health_of(client, pair[0])
        is_ok = health["dependencies"]["archive"]["status"] == "ok"
        return (stats["backlog"], stats["written"] >= 40, is_ok) == (0, True, True)

    await eventually(is_nothing_left)


async def test_a_database_that_is_killed_and_hung_under_load_misses_no_acknowledged_call(
    own: ArchiveUnderTest, start_pair: StartPair
) -> None:
    pair = start_pair(own)
    ledger, is_over = Ledger("ledger"), asyncio.Event()
    posting = asyncio.create_task(post_at_rate(ledger, pair, 60.0, is_over))

    await until_acknowledged(ledger, 80)
    own.server.kill()
    await until_acknowledged(ledger, 80)
    await asyncio.to_thread(own.server.start)
    await until_acknowledged(ledger, 80)
    own.server.pause()
    await until_acknowledged(ledger, 80)
    own.server.resume()
    pair[1].kill()
    is_over.set()
    await posting

    assert ledger.refused < len(ledger.acknowledged) / 10, "webhooks do not wait for the database"
    await own.until_archived(ledger.acknowledged)


async def test_records_outlive_a_database_that_is_away_for_longer_than_they_live(
    client: httpx2.AsyncClient, own: ArchiveUnderTest, start_pair: StartPair
) -> None:
    (replica,) = start_pair(own, count=1, result_ttl_s=2)
    own.server.kill()
    await post_until_taken(client, replica, full_report("early"))

    async def is_known_to_be_down() -> bool:
        health = await health_of(client, replica)
        return (health["status"], health["dependencies"]["archive"]["status"]) == ("degraded", "down")

    await eventually(is_known_to_be_down)
    await asyncio.sleep(3)
    for path in (CALLS + "early", "/health"):
        assert (await get_when_served(client, replica.url + path)).status_code == 200

    await asyncio.to_thread(own.server.start)
    await own.until_archived(["early"])

    async def is_gone_from_redis() -> bool:
        return bool((await get_stats(client, replica.url))["size"] == 0)

    await eventually(is_gone_from_redis)


@pytest.mark.parametrize("has_row", [True, False], ids=["after it was a row", "before"])
async def test_a_deleted_call_stays_deleted_also_for_later_messages(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair, *, has_row: bool
) -> None:
    pair = start_pair(shared, result_ttl_s=1)
    await post_until_taken(client, pair[0], full_report("deleted"))
    if has_row:
        await shared.until_archived(["deleted"])
    assert (await client.delete(f"{pair[1].url}{CALLS}deleted")).status_code == 200

    async def is_tombstone_over() -> bool:
        return (await get_call(client, pair[0], "deleted", wait="0")).status_code == 202

    await eventually(is_tombstone_over)
    await post_until_taken(client, pair[0], full_report("deleted"))
    await post_until_taken(client, pair[0], full_report("later"))
    await shared.until_archived(["later"])

    async def is_written() -> bool:
        return bool((await archive_stats(client, pair[0]))["backlog"] == 0)

    await eventually(is_written)
    assert await shared.ask("SELECT call_id FROM vapi_call_results") == "later"


async def test_a_row_loses_what_was_said_when_vapi_deletes_the_call(
    client: httpx2.AsyncClient, shared: ArchiveUnderTest, start_pair: StartPair
) -> None:
    (replica,) = start_pair(shared, count=1)
    await post_until_taken(client, replica, full_report("call-1"))
    await shared.until_archived(["call-1"])

    await post_until_taken(client, replica, message("call.deleted", "call-1"))

    async def has_lost_it() -> bool:
        lost = "transcript IS NULL AND messages IS NULL AND recording_url IS NULL AND analysis_summary IS NULL"
        return await shared.ask(f"SELECT {lost}, status FROM vapi_call_results") == "t|ended"

    await eventually(has_lost_it)


async def test_a_replica_that_stops_leaves_nothing_for_which_others_have_to_wait(
    client: httpx2.AsyncClient, own: ArchiveUnderTest, redis_process: RedisProcess, start_pair: StartPair
) -> None:
    def idle_ms() -> list[int]:
        """For how long nobody seems to work on each change that was read."""
        found: list[Any] = []
        for key in Keys(prefix_of(own)).archives:
            with suppress(ResponseError):  # of a stream that is empty
                found += redis_process.client.xpending_range(key, GROUP, "-", "+", 100)
        return [int(entry["time_since_delivered"]) for entry in found]

    (first,) = start_pair(own, count=1)
    own.server.pause()
    call_ids = [f"call-{number}" for number in range(30)]
    for call_id in call_ids:
        await post_until_taken(client, first, full_report(call_id))
    await eventually(lambda: bool(idle_ms()))

    first.terminate()
    assert first.wait() == 0
    assert min(idle_ms()) > TAKEN_OVER_AFTER_MS, "as if it had been dead for long"

    (second,) = start_pair(own, count=1)
    own.server.resume()
    await own.until_archived(call_ids)
    assert (await archive_stats(client, second))["refused"] == []


async def test_what_waits_is_given_up_before_redis_is_full_and_no_webhook_is_refused(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    small = RedisProcess("--maxmemory", "24mb", "--maxmemory-policy", "noeviction").start()
    try:
        nobody = "postgresql://nobody@127.0.0.1:9/nothing"
        replica = start_replica(redis_url=small.url, database_url=nobody, result_ttl_s=1, log_level="error")
        said = {"transcript": "User: " + "word " * 10_000}
        numbers = itertools.count()

        async def has_given_up() -> bool:
            for number in itertools.islice(numbers, 10):
                await post_until_taken(client, replica, full_report(f"call-{number}", artifact=said))
            return int((await archive_stats(client, replica))["given_up"]) > 100

        await eventually(has_given_up)
        assert "errorstat_OOM" not in small.client.info("errorstats"), "it refused nothing"
        assert small.client.info("memory")["used_memory"] < 24 * 1024 * 1024
        await eventually(lambda: "redis is nearly full" in replica.log)
    finally:
        small.stop()
