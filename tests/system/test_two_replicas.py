"""Replicas hold nothing between requests: what one took, all have, in whatever order it came."""

from __future__ import annotations

import asyncio
import random
import uuid
from functools import partial
from typing import Any

import httpx2

from tests.support.eventually import eventually
from tests.support.failover import wakes_at_once
from tests.support.raw_http import RawAnswer, RawConnection, get
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.traffic import (
    ask_until_served,
    delete_call,
    get_call,
    get_record,
    get_when_served,
    post_until_taken,
    until_parked,
)
from tests.support.vapi_sender import full_report, sample, sample_names, status_update

OWN_TO_EACH = ("id", "call_id", "version", "created_at", "updated_at", "expires_at")
"""What may differ between two records of the same messages."""

Pair = tuple[Replica, Replica]


async def test_a_webhook_posted_to_one_replica_is_read_from_the_other_at_once(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    await post_until_taken(client, pair[0], status_update("ringing", "shared-1"))
    assert (await get_record(client, pair[1], "shared-1"))["status"] == "ringing"


async def test_a_webhook_posted_to_one_replica_answers_a_poll_parked_on_the_other(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    await eventually(lambda: wakes_at_once(client, pair[0], pair[1], "shared-2"))


async def test_a_call_deleted_on_one_replica_ends_a_poll_parked_on_the_other(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    await post_until_taken(client, pair[0], status_update("ringing", "shared-3"))
    poll = asyncio.create_task(get_call(client, pair[1], "shared-3", wait="25"))
    await until_parked(client, pair[1], 1)
    await delete_call(client, pair[0], "shared-3")
    assert (await poll).status_code == 404


async def test_both_replicas_give_the_same_etag(client: httpx2.AsyncClient, pair: Pair) -> None:
    await post_until_taken(client, pair[0], full_report("shared-4"))
    etag = (await get_when_served(client, f"{pair[0].url}{CALLS}shared-4")).headers["etag"]
    ask = partial(client.get, f"{pair[1].url}{CALLS}shared-4", headers={"If-None-Match": etag})
    again = await ask_until_served(ask)
    assert again.status_code == 304


async def test_twenty_random_orders_of_the_same_messages_at_two_replicas_end_in_one_record(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    records = await asyncio.gather(*(record_of_random_order(client, pair, seed) for seed in range(20)))
    assert all(record["data_status"] == "complete" for record in records)
    assert all(record == records[0] for record in records)


async def record_of_random_order(client: httpx2.AsyncClient, pair: Pair, seed: int) -> dict[str, Any]:
    """Post every sample at least once, some again, in an order of the seed's, several at a time, to both replicas."""
    order, call_id = random.Random(seed), f"random-order-{seed:02}"
    bodies = [sample(name, call_id) for name in sample_names()]
    bodies += order.choices(bodies, k=10)
    order.shuffle(bodies)
    at_a_time = order.randint(2, 8)
    for start in range(0, len(bodies), at_a_time):
        wave = bodies[start : start + at_a_time]
        await asyncio.gather(*(post_until_taken(client, order.choice(pair), body) for body in wave))
    record = await get_record(client, order.choice(pair), call_id)
    assert record["id"] == str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:vapi:call:{call_id}"))
    return {name: value for name, value in record.items() if name not in OWN_TO_EACH}


async def test_a_thousand_polls_parked_on_one_call_are_all_answered_after_one_webhook(
    client: httpx2.AsyncClient, pair: Pair
) -> None:
    request = get(CALLS.encode() + b"crowd-1?wait=25&view=summary")

    async def poll(connection: RawConnection) -> RawAnswer:
        """Again where a busy machine took too long to park it, or to park all the others."""
        while True:
            await connection.send(request)
            answer = await connection.answer()
            if answer.status not in (202, 503):
                return answer

    connections = await asyncio.gather(*(RawConnection.open(pair[1].port) for _ in range(1000)))
    try:
        polls = asyncio.gather(*map(poll, connections))
        await until_parked(client, pair[1], 1000)
        await post_until_taken(client, pair[0], full_report("crowd-1"))
        answers = await polls
    finally:
        for connection in connections:
            connection.abort()
    assert {answer.status for answer in answers} == {200}
    assert {answer.json()["data"]["data_status"] for answer in answers} == {"complete"}
