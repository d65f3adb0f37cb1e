"""The stream of all calls' events: a view of now for whoever listens, with the stats for admins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from tests.support.event_streams import EventReader, follow
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, EVENTS
from tests.support.service_api import ADMIN, PROOF, READER, connected, deliver, new_address, new_call_id
from tests.support.traffic import get_stats
from tests.support.vapi_sender import full_report, status_update


@pytest.fixture
async def reader(closed_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the closed replica with a read token."""
    async with connected(closed_replica, **READER, **PROOF) as client:
        yield client


async def event_of(stream: EventReader, call_id: str, name: str = "call") -> dict[str, object]:
    """The data of the next event of that call; tests beside this one have calls, too."""
    data: dict[str, object] = (await stream.until_call(call_id, name))[-1].data
    return data


async def test_every_change_of_any_call_is_told_without_its_phone_number(reader: httpx2.AsyncClient) -> None:
    first, second = new_call_id(), new_call_id()
    async with follow(reader, EVENTS) as stream:
        await deliver(reader, status_update("queued", first))
        assert await event_of(stream, first) == {
            "call_id": first,
            "status": "queued",
            "data_status": "pending",
            "outcome": None,
            "updated_at": (await reader.get(CALLS + first)).json()["data"]["updated_at"],
        }
        await deliver(reader, full_report(second))
        ended = await event_of(stream, second)
        assert (ended["status"], ended["data_status"], ended["outcome"]) == ("ended", "complete", "completed")
        await deliver(reader, status_update("in-progress", first))
        assert (await event_of(stream, first))["status"] == "in-progress"


async def test_a_deleted_call_is_told_of(closed_replica: Replica, reader: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(reader, full_report(call_id))
    async with follow(reader, EVENTS) as stream, connected(closed_replica, **ADMIN) as admin:
        await admin.delete(CALLS + call_id)
        assert await event_of(stream, call_id, "gone") == {"call_id": call_id}


async def test_whoever_comes_back_gets_the_latest_of_what_changed_meanwhile(reader: httpx2.AsyncClient) -> None:
    before, changed = new_call_id(), new_call_id()
    async with follow(reader, EVENTS) as stream:
        await deliver(reader, status_update("queued", before))
        await event_of(stream, before)
    await deliver(reader, status_update("queued", changed), status_update("in-progress", changed))
    async with follow(reader, EVENTS, stream.last_event_id) as stream:
        data = await event_of(stream, changed)
        if data["status"] == "queued":
            data = await event_of(stream, changed)
    assert data["status"] == "in-progress"


async def test_whoever_comes_from_another_process_is_told_of_a_gap(reader: httpx2.AsyncClient) -> None:
    for strange in ("0123456789ab-7", "x", '"', "0123456789ab-99999999999999999999999999"):
        async with follow(reader, EVENTS, strange) as stream:
            assert (await stream.next()).name == "gap"
            own = stream.last_event_id
        async with follow(reader, EVENTS, own) as stream:
            call_id = new_call_id()
            await deliver(reader, status_update("queued", call_id))
            assert (await stream.next()).name == "call"


async def test_lost_notifications_are_a_gap(start_replica: Callable[..., Replica], own_redis: RedisProcess) -> None:
    replica = start_replica(redis_url=own_redis.url, store_timeout_s=1.2)
    async with connected(replica) as client, follow(client, EVENTS) as stream:
        await deliver(client, status_update("queued", "lost-1"))
        await stream.next("call")
        own_redis.stop()
        own_redis.start()
        await stream.next("gap")


async def test_an_admin_gets_the_stats_and_a_reader_does_not(
    closed_replica: Replica, reader: httpx2.AsyncClient
) -> None:
    async with (
        connected(closed_replica, **ADMIN) as admin,
        follow(admin, EVENTS) as stream,
        follow(admin, EVENTS) as another,
        follow(reader, EVENTS) as others,
    ):
        stats = await stream.next("stats")
        assert (stats.id, stats.data["success"]) == (None, True)
        assert stats.data["stats"].keys() == (await get_stats(admin)).keys()
        assert (await another.next("stats")).data == stats.data
        await stream.next("stats")
        call_id = new_call_id()
        await deliver(reader, status_update("queued", call_id))
        while (event := await others.next()).name != "call" or event.data["call_id"] != call_id:
            assert event.name in ("call", "gone")


async def test_a_stream_ends_after_the_time_that_its_client_sets(reader: httpx2.AsyncClient) -> None:
    async with follow(reader, EVENTS + "?wait=0.2") as stream:
        assert {event.name for event in await stream.rest()} <= {"call", "gone"}
    assert (await reader.get(EVENTS, params={"wait": "x"})).status_code == 400


async def test_the_stream_needs_a_token(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get(EVENTS, params={"token": "a-read-token"})).status_code == 401
    assert (await stranger.get(EVENTS, headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await stranger.post(EVENTS, headers={"X-Forwarded-For": new_address()})).status_code == 405
    head = await stranger.head(EVENTS, headers=READER)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")


async def test_a_burst_reaches_a_stream_and_leaves_room_for_others(reader: httpx2.AsyncClient) -> None:
    ids = [new_call_id() for _ in range(300)]
    async with follow(reader, EVENTS) as stream:
        posts = [deliver(reader, status_update("queued", call_id)) for call_id in ids]
        posting = asyncio.gather(*posts)
        waiting = set(ids)
        while waiting:
            waiting.discard((await stream.next("call")).data["call_id"])
        await posting
