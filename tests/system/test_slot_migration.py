"""A webhook that meets a slot half way between two masters changes a record as a whole, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import redis
from redis.crc import key_slot

from tests.support.cluster_setup import ClusterSetup
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS
from tests.support.slot_move import KEYS, Move, call_ids_in
from tests.support.traffic import delete_call, get_record, get_when_served, post_until_taken, post_webhook
from tests.support.vapi_sender import full_report, status_update

BUCKET = 5
PHONE = "+18645550123"


@pytest.fixture
def cluster() -> Iterator[ClusterSetup]:
    cluster = ClusterSetup()
    try:
        yield cluster.start()
    finally:
        cluster.stop()


async def fill_bucket(
    client: httpx2.AsyncClient, cluster: ClusterSetup, replica: Replica, first: dict[str, Any], call_id: str
) -> tuple[Move, redis.Redis]:
    """Post the call's first message, and see to it that every key which a merge declares is there: or Redis refuses
    it at once.
    """
    partial, deleted = call_ids_in(BUCKET, "others", 2)
    for body in (first, status_update("ended", partial), full_report(deleted)):
        await post_until_taken(client, replica, body)
    await delete_call(client, replica, deleted)
    move = await asyncio.to_thread(Move, cluster, key_slot(KEYS.probes[BUCKET]))
    source = move.source.client
    for index in (KEYS.due(BUCKET), KEYS.subscribed(BUCKET)):
        source.zadd(index, {"x y": 9e15})
    source.hset(KEYS.subscriptions[BUCKET] + call_id.encode(), "execution", "settled")
    return move, source


async def test_a_merge_that_redis_ends_half_way_leaves_the_record_as_it_was(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=cluster.url)
    (call_id,) = call_ids_in(BUCKET, "half-way", 1)
    move, source = await fill_bucket(client, cluster, replica, status_update("ringing", call_id), call_id)
    before = source.hgetall(KEYS.call(call_id.encode()))

    await asyncio.to_thread(move.begin)
    answer = await post_webhook(client, replica, full_report(call_id))  # its phone's key is not there yet
    after = source.hgetall(KEYS.call(call_id.encode()))
    await asyncio.to_thread(move.finish)

    assert (answer.status_code, after) == (503, before)
    await post_until_taken(client, replica, full_report(call_id))
    assert (await get_record(client, replica, call_id))["data_status"] == "complete"
    found = (await get_when_served(client, f"{replica.url}{BY_PHONE}{PHONE}?limit=100")).json()["data"]
    assert call_id in {record["call_id"] for record in found}


async def test_a_merge_that_empties_an_index_of_a_moving_slot_is_done(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=cluster.url)
    (call_id,) = call_ids_in(BUCKET, "last-one", 1)
    first = status_update("ended", call_id, customer={"number": PHONE})
    move, source = await fill_bucket(client, cluster, replica, first, call_id)
    source.zrem(KEYS.indices[BUCKET][2], *call_ids_in(BUCKET, "others", 1))

    await asyncio.to_thread(move.begin)
    await post_until_taken(client, replica, full_report(call_id))
    await asyncio.to_thread(move.finish)

    assert (await get_record(client, replica, call_id))["data_status"] == "complete"


async def test_a_report_without_a_recording_is_taken_where_a_moving_slot_takes_no_late_refresh(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    nobody = {"vapi_api_key": "a-key", "vapi_api_url": "http://127.0.0.1:9"}
    replica = start_replica(redis_url=cluster.url, **nobody)
    (call_id,) = call_ids_in(BUCKET, "unrecorded", 1)
    first = status_update("ended", call_id, customer={"number": PHONE})
    move, source = await fill_bucket(client, cluster, replica, first, call_id)
    assert not source.exists(KEYS.refreshes[BUCKET])

    await asyncio.to_thread(move.begin)
    report = full_report(call_id, artifact={"transcript": "AI: Hello.\nUser: Hi.\n"})
    await post_until_taken(client, replica, report)
    await asyncio.to_thread(move.finish)

    await post_until_taken(client, replica, report)
    assert move.target.client.zrange(KEYS.refreshes[BUCKET], 0, -1) == [call_id.encode()]


async def test_a_call_that_is_deleted_in_a_moving_slot_stays_deleted(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=cluster.url)
    (call_id,) = call_ids_in(BUCKET, "deleted", 1)
    move, _ = await fill_bucket(client, cluster, replica, full_report(call_id), call_id)

    await asyncio.to_thread(move.begin)
    await delete_call(client, replica, call_id)
    await asyncio.to_thread(move.finish)

    await post_until_taken(client, replica, full_report(call_id))
    assert (await get_when_served(client, f"{replica.url}{CALLS}{call_id}")).status_code == 404
