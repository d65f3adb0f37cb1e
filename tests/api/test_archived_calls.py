"""Polls and lists where PostgreSQL keeps the calls: after the record's life, while it runs, and while the archive is away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
from redis.asyncio import Redis

from service.archive.database import Archive
from service.calls.stamped_call import StampedCall
from tests.support.callback_receiver import SECRET, CallbackReceiver
from tests.support.eventually import eventually
from tests.support.postgres_server import PostgresProcess
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS
from tests.support.service_api import (
    AT_ONCE_S,
    connected,
    deliver,
    list_calls,
    new_call_id,
    poll_at_once,
    subscribe_callback,
)
from tests.support.store_events import change_from, lifetime_of
from tests.support.traffic import get_when_served
from tests.support.vapi_sender import full_report, message, status_update

_numbers = itertools.count(18_645_570_000)
Start = Callable[..., Replica]


def new_number() -> str:
    return f"+{next(_numbers)}"


def row_of(call_id: str, number: str, *, updated_at_ms: int = 1_788_264_000_000) -> StampedCall:
    """A call that has ended, as the archive keeps it."""
    stamped = lifetime_of(change_from(full_report(call_id, customer={"number": number})))
    call = msgspec.structs.replace(stamped.call, created_at_ms=updated_at_ms, updated_at_ms=updated_at_ms)
    return msgspec.structs.replace(stamped, call=call)


async def page_of(client: httpx2.AsyncClient, number: str, **query: str) -> dict[str, Any]:
    """A page of a number's calls, once the archive answers in time, which on a busy machine it may not."""
    pages: list[dict[str, Any]] = []

    async def is_whole() -> bool:
        pages.append((await list_calls(client, number, query)).json())
        return "archive_missing" not in pages[-1]

    await eventually(is_whole)
    return pages[-1]


async def reads_of(redis_process: RedisProcess) -> int:
    """How many times a server has read fields of hashes."""
    async with Redis.from_url(redis_process.url) as redis:
        return int((await redis.info("commandstats"))["cmdstat_hmget"]["calls"])


@pytest.fixture
def start_archiving(
    start_replica: Start, redis_process: RedisProcess, postgres_process: PostgresProcess, database: str
) -> Start:
    """Starts replicas on the test's database, with keys of their own."""
    database_url = postgres_process.url_of(database)
    usual = {"redis_url": redis_process.url, "redis_key_prefix": database, "store_timeout_s": 1.2}
    return partial(start_replica, database_url=database_url, **usual)


@pytest.fixture
async def replica(start_archiving: Start) -> Replica:
    return start_archiving()


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """Of a replica that has reached the archive: that alone may take longer than a request has."""
    async with connected(replica) as connection:
        assert (await get_when_served(connection, CALLS + new_call_id())).status_code == 404
        yield connection


async def test_a_call_whose_record_has_expired_is_answered_from_the_archive(
    client: httpx2.AsyncClient, archive: Archive
) -> None:
    call_id = new_call_id()
    await archive.write([row_of(call_id, new_number())], {})

    plain = await get_when_served(client, CALLS + call_id)
    waited = await poll_at_once(client, call_id, view="summary")

    data = plain.json()["data"]
    assert (plain.status_code, waited.status_code) == (200, 200)
    assert [*data][-1] == "archived"
    assert (data["archived"], data["data_status"], data["transcript"]["text"]) == (
        True,
        "complete",
        "AI: Hello.\nUser: Hi.\n",
    )
    assert data["expires_at"] == "2026-11-30T12:00:00.000Z"  # 90 days after it began
    assert waited.json()["data"] == {name: data[name] for name in data if name not in ("transcript", "messages")}
    assert plain.headers["etag"] != waited.headers["etag"]
    known = await poll_at_once(client, call_id, {"If-None-Match": plain.headers["etag"]})
    assert known.status_code == 304


async def test_a_late_message_does_not_hide_the_archived_report(client: httpx2.AsyncClient, archive: Archive) -> None:
    call_id, number = new_call_id(), new_number()
    await archive.write([row_of(call_id, number)], {})
    late = message("speech-update", call_id, timestamp=9_000_000_000_000, customer={"number": new_number()})
    await deliver(client, late)

    answer = await poll_at_once(client, call_id)

    data = answer.json()["data"]
    assert (answer.status_code, data["archived"], data["data_status"]) == (200, True, "complete")
    assert data["customer_phone"] == number  # of the report, which outranks what came later


async def test_a_running_call_and_one_that_nobody_knows_are_answered_as_without_an_archive(
    client: httpx2.AsyncClient,
) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    running = (await client.get(CALLS + call_id)).json()["data"]
    assert (running["status"], "archived" in running) == ("in-progress", False)
    assert (await client.get(CALLS + call_id, params={"wait": "0"})).status_code == 202
    assert (await get_when_served(client, CALLS + new_call_id())).status_code == 404
    assert (await client.get(CALLS + new_call_id(), params={"wait": "0.1"})).status_code == 202


async def test_a_call_that_only_the_archive_has_is_deleted(client: httpx2.AsyncClient, archive: Archive) -> None:
    call_id = new_call_id()
    await archive.write([row_of(call_id, new_number())], {})
    assert (await client.delete(CALLS + call_id)).status_code == 200
    assert (await client.get(CALLS + call_id)).status_code == 404
    assert (await client.delete(CALLS + new_call_id())).status_code == 404


async def test_a_list_has_each_call_once_whether_it_is_archived_or_not(
    client: httpx2.AsyncClient, archive: Archive
) -> None:
    number = new_number()
    old = [new_call_id() for _ in range(7)]
    rows = [row_of(call_id, number, updated_at_ms=1_788_264_000_000 + place) for place, call_id in enumerate(old)]
    await archive.write(rows, {})
    live = [new_call_id() for _ in range(3)]
    for call_id in live:
        await deliver(client, status_update("in-progress", call_id, customer={"number": number}))

    expected = [*reversed(old + live)]
    pages = [
        await page_of(client, number, limit=str(limit), offset=str(offset))
        for offset, limit in itertools.product((0, 1, 2, 3, 5, 9, 12), (1, 4, 100))
    ]
    for page in pages:
        offset, limit = page["pagination"]["offset"], page["pagination"]["limit"]
        assert [call["call_id"] for call in page["data"]] == expected[offset : offset + limit]
        assert (page["count"], page["pagination"]["hasMore"]) == (10, offset + limit < 10)


async def test_a_page_reads_only_the_calls_that_it_shows_however_many_are_not_archived_yet(
    client: httpx2.AsyncClient, redis_process: RedisProcess
) -> None:
    number = new_number()
    for _ in range(300):
        await deliver(client, status_update("in-progress", new_call_id(), customer={"number": number}))
    before = await reads_of(redis_process)
    pages = [await page_of(client, number, limit="1") for _ in range(3)]

    assert [(page["count"], len(page["data"])) for page in pages] == [(300, 1)] * 3
    assert await reads_of(redis_process) - before < 450, "not all for each page"


async def test_a_deleted_call_is_shown_by_nothing_while_the_database_takes_no_writes(
    start_archiving: Start, postgres_process: PostgresProcess, database: str, archive: Archive
) -> None:
    deleted, other, number = new_call_id(), new_call_id(), new_number()
    await archive.write([row_of(deleted, number), row_of(other, number)], {})
    postgres_process.ask(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    replica = start_archiving(result_ttl_s=1)
    async with connected(replica) as client:
        assert (await client.delete(CALLS + deleted)).status_code == 200
        await asyncio.sleep(1.1)  # as long as a tombstone lives otherwise

        assert (await client.get(CALLS + deleted)).status_code == 404
        page = await page_of(client, number)
        assert ([call["call_id"] for call in page["data"]], page["count"]) == ([other], 1)


async def test_a_callback_is_sent_at_once_where_only_the_archive_has_the_final_record(
    start_archiving: Start, archive: Archive
) -> None:
    call_id = new_call_id()
    with CallbackReceiver() as receiver:
        await archive.write([row_of(call_id, new_number())], {})
        replica = start_archiving(callback_allowed_prefixes=receiver.url, callback_secret=SECRET)
        async with connected(replica) as client:
            assert (await subscribe_callback(client, call_id, receiver.url + "/hook")).status_code == 202
            await eventually(lambda: len(receiver.requests) > 0)
            polled = (await get_when_served(client, CALLS + call_id, {"view": "summary"})).json()
        assert receiver.bodies("/hook") == [polled]


async def test_while_the_archive_hangs_redis_answers_alone_and_nobody_waits_for_it_twice(
    start_replica: Start, redis_process: RedisProcess
) -> None:
    postgres = PostgresProcess().start()
    try:
        replica = start_replica(
            redis_url=redis_process.url, redis_key_prefix=new_call_id(), database_url=postgres.url_of()
        )
        postgres.pause()
        async with connected(replica) as client:
            call_id, number = new_call_id(), new_number()
            await deliver(client, status_update("in-progress", call_id, customer={"number": number}))
            assert (await client.get(CALLS + call_id)).json()["data"]["status"] == "in-progress"
            listed = (await client.get(BY_PHONE + number)).json()
            assert ([call["call_id"] for call in listed["data"]], listed["archive_missing"]) == ([call_id], True)

            unknown = await client.get(CALLS + new_call_id())
            assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "1")
            assert (await client.get(CALLS + new_call_id(), params={"wait": "0.1"})).status_code == 202
            async with asyncio.timeout(AT_ONCE_S):  # one second for each would be 40 s
                for _ in range(40):
                    assert (await client.get(CALLS + call_id)).status_code == 200
    finally:
        postgres.remove()
