"""What only a Cluster does: slots move from one master to another, and any one node is enough to begin with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest
from redis.crc import key_slot

from tests.support.cluster_setup import ClusterSetup
from tests.support.eventually import eventually
from tests.support.failover import Prober, call_ids_at, slots_of, wakes_at_once
from tests.support.fake_kestra import FakeKestra
from tests.support.redis_server import free_port
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution
from tests.support.routes import CALLS
from tests.support.slot_move import KEYS, Move, call_ids_in
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report, status_update

Pair = tuple[Replica, Replica]

MOVED_WITHIN_S = 0.8
"""Less than a request waits for Redis."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSetup]:
    with ExitStack() as stack:
        cluster = ClusterSetup()
        stack.callback(cluster.stop)
        yield cluster.start()


@pytest.fixture(scope="module")
def replicas(cluster: ClusterSetup) -> Iterator[Pair]:
    with ExitStack() as stack:
        both = [Replica(redis_url=cluster.url) for _ in range(2)]
        for replica in both:
            stack.callback(replica.stop)
            replica.start()
        yield both[0], both[1]


async def until_more_answers(*probers: Prober) -> None:
    """Each has ten more than now."""
    before = [len(prober.answers) for prober in probers]
    await eventually(lambda: all(len(prober.answers) >= had + 10 for prober, had in zip(probers, before, strict=True)))


async def test_a_slot_that_moves_while_webhooks_come_fails_no_request_and_loses_nothing(
    client: httpx2.AsyncClient, cluster: ClusterSetup, replicas: Pair
) -> None:
    bucket = 7
    before, *sent = call_ids_in(bucket, "moved", 600)
    move = await asyncio.to_thread(Move, cluster, key_slot(KEYS.probes[bucket]))
    await post_webhook(client, replicas[0], full_report(before))
    async with (
        Prober(lambda number: post_webhook(client, replicas[number % 2], full_report(sent[number])), 0.025) as webhooks,
        Prober(lambda number: get_call(client, replicas[number % 2], before), 0.025) as polls,
    ):
        await webhooks.first_success_s(0)
        began_at = time.monotonic()
        await asyncio.to_thread(move.begin)
        await until_more_answers(webhooks, polls)
        await asyncio.to_thread(move.finish)
        allowed = allowed_after(time.monotonic() - began_at)
        await until_more_answers(webhooks, polls)

    assert move.slot in slots_of(move.target)
    assert {answer.status for answer in (*webhooks.answers, *polls.answers)} <= allowed
    for answer in webhooks.answers:
        if answer.status == 200:
            assert (await get_call(client, replicas[0], sent[answer.number])).status_code == 200


def allowed_after(seconds: float) -> set[int]:
    """Which statuses a move that lasted so long may cause: a request waits for the slot, but only for a second."""
    return {200} if seconds < MOVED_WITHIN_S else {200, 503}


async def test_a_call_that_has_moved_ahead_of_its_slot_is_read_where_it_is(
    client: httpx2.AsyncClient, cluster: ClusterSetup, replicas: Pair
) -> None:
    bucket = 9
    (call_id,) = call_ids_in(bucket, "ahead", 1)
    move = await asyncio.to_thread(Move, cluster, key_slot(KEYS.probes[bucket]))
    await post_webhook(client, replicas[0], full_report(call_id))
    move.begin()
    try:
        move.carry()
        assert (await get_call(client, replicas[1], call_id)).json()["data"]["data_status"] == "complete"
    finally:
        move.finish()


async def test_while_a_slot_is_between_two_masters_webhooks_wait_and_are_taken(
    client: httpx2.AsyncClient, cluster: ClusterSetup, replicas: Pair
) -> None:
    """A webhook waits for a second; a move that a busy machine made last longer is made again."""
    bucket = 11
    call_ids = call_ids_in(bucket, "between", 20)
    for known, new in zip(call_ids[::2], call_ids[1::2], strict=True):
        move = await asyncio.to_thread(Move, cluster, key_slot(KEYS.probes[bucket]))
        await post_webhook(client, replicas[0], status_update("ringing", known))
        began_at = time.monotonic()
        answers = await post_between(client, replicas, move, known, new)
        allowed = allowed_after(time.monotonic() - began_at)
        if allowed == {200}:
            break
    assert {answer.status_code for answer in answers} <= allowed
    for call_id, _ in filter(lambda pair: pair[1].status_code == 200, zip((known, new), answers, strict=True)):
        assert (await get_call(client, replicas[1], call_id)).json()["data"]["data_status"] == "complete"


async def post_between(
    client: httpx2.AsyncClient, replicas: Pair, move: Move, known: str, new: str
) -> list[httpx2.Response]:
    """Post reports while the slot is neither here nor there."""
    move.begin()
    try:
        waiting = [
            asyncio.create_task(post_webhook(client, replica, full_report(call_id)))
            for replica, call_id in zip(replicas, (known, new), strict=True)
        ]
        await asyncio.sleep(0.3)
    finally:
        move.finish()
    return await asyncio.gather(*waiting)


async def test_one_living_node_among_those_named_is_enough_to_start(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    alive = cluster.masters()[0]
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{alive.port},127.0.0.1:{free_port()}"
    first, second = start_replica(redis_url=url), start_replica(redis_url=url)
    for master in cluster.masters():
        call_id = next(call_ids_at(cluster, master, "alone"))
        assert (await post_webhook(client, first, full_report(call_id))).status_code == 200
        assert (await get_call(client, second, call_id)).status_code == 200
    await eventually(lambda: wakes_at_once(client, first, second, "alone"))


async def test_executions_are_resumed_wherever_their_calls_are_kept(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    async with FakeKestra() as kestra:
        replica = start_replica(redis_url=cluster.url, redis_key_prefix="resuming", kestra_url=kestra.url)
        executions = [paused_execution(kestra, f"execution{number}") for number in range(40)]
        for number, execution in enumerate(executions):
            url, wanted = f"{replica.url}{CALLS}resumed-{number}/subscriptions", execution.id
            answer = await client.post(url, json={"kind": "kestra_resume", "execution_id": wanted})
            assert answer.status_code == 202
        reports = [full_report(f"resumed-{number}") for number in range(40)]
        await asyncio.gather(*(post_webhook(client, replica, report) for report in reports))
        await asyncio.gather(*(execution.until_resumed() for execution in executions))
    assert {execution.resumes for execution in executions} == {1}
