"""The stream of one call's events: what comes, when it ends, and what a client that comes back gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2
import pytest

from tests.support.event_streams import events_of, follow
from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import (
    PROOF,
    READER,
    connected,
    deliver,
    metric,
    new_call_id,
    raw_connection,
    request_head,
)
from tests.support.vapi_sender import full_report, preliminary_report, status_update


async def streams_open(client: httpx2.AsyncClient, count: int) -> None:
    async def is_reached() -> bool:
        return await metric(client, "vapi_streams_open") == count

    await eventually(is_reached)


async def test_a_stream_tells_each_change_and_ends_with_the_record(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    async with follow(client, events_of(call_id)) as stream:
        unknown = await stream.next()
        await deliver(client, status_update("queued", call_id))
        queued = await stream.next()
        await deliver(client, status_update("in-progress", call_id))
        running = await stream.next()
        await deliver(client, full_report(call_id))
        *_, last = await stream.rest()
    assert (unknown.id, unknown.data["status"], unknown.data["data_status"]) == (None, None, "pending")
    assert [event.data["status"] for event in (queued, running)] == ["queued", "in-progress"]
    poll = await client.get(CALLS + call_id)
    assert (last.name, last.id, last.data) == ("call", poll.headers["etag"], poll.json()["data"])


async def test_the_summary_is_streamed_where_it_is_asked_for(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    async with follow(client, events_of(call_id) + "?view=summary") as stream:
        [event] = await stream.rest()
    assert "transcript" not in event.data
    assert event.data == (await client.get(CALLS + call_id, params={"view": "summary"})).json()["data"]


async def test_a_stream_ends_after_the_time_that_its_client_sets(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    async with follow(client, events_of(call_id) + "?wait=0.5&view=summary") as stream:
        assert [event.data["status"] for event in await stream.rest()] == ["in-progress"]


async def test_a_client_that_comes_back_gets_only_what_changed(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    async with follow(client, events_of(call_id)) as stream:
        first = await stream.next()
    async with follow(client, events_of(call_id), first.id) as stream:
        await deliver(client, full_report(call_id))
        [last] = await stream.rest()
    assert last.data["data_status"] == "complete"
    answer = await client.get(events_of(call_id), headers={"Last-Event-ID": last.id or ""})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_deleted_call_is_gone_and_stays_gone(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    async with follow(client, events_of(call_id)) as stream:
        await stream.next()
        await client.delete(CALLS + call_id)
        [gone] = await stream.rest()
    assert (gone.name, gone.data) == ("gone", {"call_id": call_id})
    async with follow(client, events_of(call_id)) as stream:
        assert [event.name for event in await stream.rest()] == ["gone"]
    assert (await client.get(events_of(call_id), headers={"Last-Event-ID": gone.id or ""})).status_code == 204


async def test_the_end_of_the_report_grace_is_told(brief_client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(brief_client, preliminary_report(call_id))
    async with follow(brief_client, events_of(call_id)) as stream:
        assert [event.data["data_status"] for event in await stream.rest()] == ["partial", "fetch_failed"]


async def test_line_breaks_between_the_values_of_a_body_do_not_break_an_event(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    messages = '[\n {"role":\r\n "user", "message": "a\\nb"}\r]'
    analysis = '{"structuredData": {"a":\n1}}'
    head = f'"type": "end-of-call-report", "timestamp": 1, "call": {{"id": "{call_id}"}}, "durationSeconds": 5'
    body = f'{{"message": {{{head},\n"artifact": {{"messages": {messages}}}, "analysis": {analysis}}}}}'
    answer = await client.post("/api/v1/vapi/webhook", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    async with follow(client, events_of(call_id)) as stream:
        [event] = await stream.rest()
    assert event.data["messages"] == [{"role": "user", "message": "a\nb"}]
    assert event.data["analysis_structured_data"] == {"a": 1}


async def test_a_record_of_megabytes_is_streamed_whole(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, artifact={"transcript": "x" * 3_000_000}))
    async with follow(client, events_of(call_id)) as stream:
        [event] = await stream.rest()
    assert len(event.data["transcript"]["text"]) == 3_000_000


async def test_the_head_of_a_stream_keeps_proxies_from_holding_it_back(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    async with follow(client, events_of(call_id)) as stream:
        headers = stream.response.headers
        await stream.next()
    assert headers["content-type"] == "text/event-stream"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert not [name for name in headers if name.startswith("access-control")]
    head = await client.head(events_of(call_id))
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", events_of("a"), 405),
        ("GET", events_of("a%20b"), 400),
        ("GET", events_of("a") + "?view=x", 400),
        ("GET", events_of("a") + "?wait=x", 400),
    ],
)
async def test_what_is_not_a_stream_is_refused(client: httpx2.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["success"]) == (status, False)


async def test_a_stream_needs_a_read_token_in_its_header(stranger: httpx2.AsyncClient, closed_replica: Replica) -> None:
    call_id = new_call_id()
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = await stranger.get(events_of(call_id) + "?token=a-read-token", headers=headers)
        assert answer.status_code == 401
    async with connected(closed_replica, **READER) as reader:
        await deliver(stranger, full_report(call_id), **PROOF)
        async with follow(reader, events_of(call_id)) as stream:
            assert len(await stream.rest()) == 1


async def test_a_client_that_goes_away_leaves_nothing(open_replica: Replica, client: httpx2.AsyncClient) -> None:
    await streams_open(client, 0)
    for _ in range(20):
        async with raw_connection(open_replica) as (reader, writer):
            writer.write(request_head("GET", events_of(new_call_id())))
            await reader.readuntil(b"event: call")
    await streams_open(client, 0)
    assert await metric(client, "vapi_polls_waiting") == 0


async def test_a_client_of_http_1_0_gets_the_plain_events_until_the_connection_ends(
    open_replica: Replica, client: httpx2.AsyncClient
) -> None:
    """It knows no chunks: https://www.rfc-editor.org/rfc/rfc9112#section-6.1."""
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    reader, writer = await asyncio.open_connection("127.0.0.1", open_replica.port)
    writer.write(b"GET %b HTTP/1.0\r\n\r\n" % events_of(call_id).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"transfer-encoding" not in head
    assert body.startswith(b"retry: 1000\n\nevent: call\nid: ")
    assert body.endswith(b"}\n\n")


async def test_a_record_is_sent_where_a_failover_lost_the_change_before_it(
    start_replica: Callable[..., Replica], redis_process: RedisProcess
) -> None:
    """Its version is then that of the change which was lost, and which the client knows."""
    call_id, redis = new_call_id(), redis_process.client
    replica = start_replica(redis_url=redis_process.url, redis_key_prefix="lost", store_timeout_s=1.2)
    async with connected(replica) as client:
        await deliver(client, status_update("queued", call_id))
        [key] = redis.keys(f"lost:*:call:{call_id}")
        replicated = redis.dump(key)
        await deliver(client, status_update("in-progress", call_id))
        async with follow(client, events_of(call_id)) as stream:
            assert (await stream.next()).data["status"] == "in-progress"
            assert isinstance(replicated, bytes)
            redis.restore(key, 60_000, replicated, replace=True)
            await deliver(client, full_report(call_id))
            *_, last = await stream.rest()
    assert last.data["data_status"] == "complete"
