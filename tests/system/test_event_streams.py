"""Streams of events behind a real HAProxy: every client gets its call's record, whatever becomes of the replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.support.event_streams import EventReader, Followed, events_of, follow, follow_until_final
from tests.support.eventually import eventually
from tests.support.load_balancer import LoadBalancer
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import EVENTS
from tests.support.service_api import connected, request_head
from tests.support.traffic import metric_at, open_client, post_until_taken
from tests.support.vapi_sender import full_report, status_update

CLIENTS = 8

Pair = tuple[Replica, Replica]


@pytest.fixture
def replicas(redis_process: RedisProcess, start_replica: Callable[..., Replica]) -> Pair:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "streams", "allow_unauthenticated": "1"}
    return start_replica(**settings), start_replica(**settings)


@pytest.fixture
def balancer(replicas: Pair) -> Iterator[LoadBalancer]:
    balancer = LoadBalancer(replicas[0].port, replicas[1].port).start()
    yield balancer
    balancer.stop()


@asynccontextmanager
async def followed(client: httpx2.AsyncClient, url: str, name: str) -> AsyncIterator[dict[str, Followed]]:
    """Clients that follow a call each, through one address. They have all got its record at the end of the block."""
    calls = {f"{name}-{number}": Followed([], 0) for number in range(CLIENTS)}
    async with asyncio.TaskGroup() as clients:
        for call_id, seen in calls.items():
            clients.create_task(follow_until_final(client, url, call_id, seen))
        await eventually(lambda: all(seen.events for seen in calls.values()))
        yield calls
    assert all(seen.is_final for seen in calls.values())


async def test_a_stream_gets_what_a_webhook_brings_to_the_other_replica(
    client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer
) -> None:
    async with follow(client, balancer.url + EVENTS) as every_call, followed(client, balancer.url, "other") as calls:
        streams_before = [seen.streams for seen in calls.values()]
        for number, (call_id, seen) in enumerate(calls.items()):
            await post_until_taken(client, replicas[number % 2], status_update("in-progress", call_id))
            await every_call.until_call(call_id)
            # A stream that is told late sends only what the record has become: then there would be one event less.
            await eventually(lambda seen=seen: len(seen.events) == 2)  # type: ignore[misc]
            await post_until_taken(client, replicas[number % 2], full_report(call_id))
    assert [seen.streams for seen in calls.values()] == streams_before
    assert {len(seen.events) for seen in calls.values()} == {3}


async def test_clients_of_a_killed_replica_come_back_to_the_other_and_get_what_they_missed(
    client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer
) -> None:
    async with followed(client, balancer.url, "killed") as calls:
        assert await metric_at(client, replicas[0], "vapi_streams_open") > 0
        await asyncio.to_thread(replicas[0].kill)
        for call_id in calls:
            await post_until_taken(client, replicas[1], full_report(call_id))
    assert max(seen.streams for seen in calls.values()) > 1


async def test_a_rolling_restart_ends_every_stream_and_loses_nobodys_record(
    client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer
) -> None:
    async with followed(client, balancer.url, "rolling") as calls:
        for replica in replicas:
            replica.terminate()
            assert await asyncio.to_thread(replica.wait) == 0
            await asyncio.to_thread(replica.start)
        for call_id in calls:
            await post_until_taken(client, replicas[0], full_report(call_id))
    assert min(seen.streams for seen in calls.values()) > 1


async def test_sigterm_ends_streams_properly_also_beside_one_that_nobody_reads(
    start_replica: Callable[..., Replica],
) -> None:
    """The one that nobody reads holds the process up no longer than any other answer."""
    replica = start_replica(drain_s="2")
    async with (
        connected(replica) as client,
        follow(client, events_of("call-1")) as one,
        follow(client, EVENTS) as every,
    ):
        _, unread = await asyncio.open_connection("127.0.0.1", replica.port, limit=1)
        unread.write(request_head("GET", EVENTS))
        await one.next()
        replica.terminate()
        assert (await one.rest(), await ends_of(every)) == ([], [])
        assert await asyncio.to_thread(replica.wait) == 0
        unread.transport.abort()


async def ends_of(stream: EventReader) -> list[str]:
    """What else than stats came until the end."""
    return [event.name for event in await stream.rest() if event.name != "stats"]


async def test_an_open_stream_is_kept_by_comments(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica()
    async with open_client() as patient, follow(patient, replica.url + events_of("quiet")) as stream:
        await stream.next()
        reading = asyncio.create_task(stream.next())
        await eventually(lambda: stream.heartbeats > 0)
        await post_until_taken(client, replica, status_update("queued", "quiet"))
        assert (await reading).data["status"] == "queued"
