"""Two replicas on Sentinel and on Cluster: everything works as with one Redis, and goes on when a master is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.support.access_log import LONGEST_ANSWER_S, answers_of, log_length, slowest_s
from tests.support.cluster_setup import ClusterSetup
from tests.support.event_streams import Followed, follow, follow_until_final
from tests.support.eventually import eventually
from tests.support.failover import Prober, Setup, call_ids_at, poll_until_over, wakes_at_once
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup
from tests.support.replica import Replica
from tests.support.routes import CALLS, EVENTS
from tests.support.traffic import (
    delete_call,
    get_call,
    get_record,
    get_stats,
    get_when_served,
    post_until_taken,
    post_webhook,
    until_parked,
    until_readable,
    until_ready,
    webhooks_counted,
)  # fmt: skip
from tests.support.vapi_sender import full_report, status_update

PHONE = "+18645550188"

Pair = tuple[Replica, Replica]


@pytest.fixture(scope="module", params=["Sentinel", "Cluster"])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    with ExitStack() as stack:
        setup: Setup = SentinelSetup(replicas=2) if request.param == "Sentinel" else ClusterSetup(promotes=True)
        stack.callback(setup.stop)
        yield setup.start()


@pytest.fixture(scope="module")
def replicas(setup: Setup) -> Iterator[Pair]:
    with ExitStack() as stack:
        both = [Replica(redis_url=setup.url, store_timeout_s=1.2) for _ in range(2)]
        for replica in both:
            stack.callback(replica.stop)
            replica.start()
        yield both[0], both[1]


async def test_messages_posted_to_both_replicas_are_one_record(client: httpx2.AsyncClient, replicas: Pair) -> None:
    for replica, body in zip(replicas, (full_report("one"), status_update("in-progress", "one")), strict=True):
        await post_until_taken(client, replica, body)
    records = [await get_record(client, replica, "one") for replica in replicas]
    assert records[0] == records[1]
    assert (records[0]["status"], records[0]["data_status"]) == ("ended", "complete")


async def test_a_poll_is_woken_by_a_webhook_to_the_other_replica(client: httpx2.AsyncClient, replicas: Pair) -> None:
    await eventually(lambda: wakes_at_once(client, replicas[0], replicas[1], "woken"))


async def test_a_deleted_call_stays_deleted_on_both_replicas_and_its_parked_poll_gets_404(
    client: httpx2.AsyncClient, replicas: Pair
) -> None:
    await post_until_taken(client, replicas[0], status_update("ringing", "gone"))
    poll = asyncio.create_task(get_call(client, replicas[1], "gone", wait="20"))
    await until_parked(client, replicas[1], 1)
    await delete_call(client, replicas[0], "gone")
    assert (await poll).status_code == 404
    await post_until_taken(client, replicas[1], full_report("gone"))
    for replica in replicas:
        assert (await get_when_served(client, f"{replica.url}{CALLS}gone")).status_code == 404


async def test_calls_of_a_number_are_found_wherever_they_are_kept(client: httpx2.AsyncClient, replicas: Pair) -> None:
    call_ids = {f"dialled-{number}" for number in range(40)}
    for call_id in call_ids:
        await post_until_taken(client, replicas[0], full_report(call_id, customer={"number": PHONE}))
    listed: dict[str, Any] = {}

    async def is_complete() -> bool:
        listed.update((await client.get(f"{replicas[1].url}{CALLS}by-phone/{PHONE}?limit=100")).json())
        return listed.get("count") == 40

    await eventually(is_complete)
    assert {record["call_id"] for record in listed["data"]} == call_ids


async def test_stats_count_what_both_replicas_took_wherever_it_is_kept(
    client: httpx2.AsyncClient, replicas: Pair
) -> None:
    async def received() -> int:
        """By the replicas' own account, which counts those that were refused and posted again, too."""
        return sum([await webhooks_counted(client, replica) for replica in replicas])

    async def are_earlier_ones_counted() -> bool:
        stats = await get_stats(client, replicas[0].url)
        return bool(stats["webhooks"]["received"] == await received())

    await eventually(are_earlier_ones_counted)
    before = await get_stats(client, replicas[0].url)
    call_ids = {f"counted-{number}" for number in range(30)}
    for number, call_id in enumerate(call_ids):
        await post_until_taken(client, replicas[number % 2], full_report(call_id))
    assert await received() >= before["webhooks"]["received"] + 30

    async def are_counted_by(replica: Replica) -> bool:
        now = await get_stats(client, replica.url, limit="30")
        grown = (now["calls"]["ended"] - before["calls"]["ended"], now["size"] - before["size"])
        entries = {entry["callId"] for entry in now["entries"]}
        counted = (now["webhooks"]["received"], len(now["replicas"]))
        return (grown, entries, counted) == ((30, 30), call_ids, (await received(), 2))

    for replica in replicas:
        await eventually(partial(are_counted_by, replica))


async def test_both_replicas_are_ready_and_every_dependency_is_well(client: httpx2.AsyncClient, replicas: Pair) -> None:
    async def is_well(replica: Replica) -> bool:
        dependencies = (await client.get(replica.url + "/health")).json()["dependencies"]
        return {dependency["status"] for dependency in dependencies.values()} == {"ok"}

    for replica in replicas:
        await until_ready(client, replica)
        await eventually(partial(is_well, replica))


@pytest.mark.parametrize(
    ("lose", "find"),
    [(RedisProcess.kill, RedisProcess.start), (RedisProcess.pause, RedisProcess.resume)],
    ids=["killed", "hung"],
)
async def test_a_lost_master_is_followed_by_the_next_and_comes_back_without_harm(
    client: httpx2.AsyncClient,
    setup: Setup,
    replicas: Pair,
    lose: Callable[[RedisProcess], None],
    find: Callable[[RedisProcess], object],
) -> None:
    masters = await asyncio.to_thread(setup.masters)
    name = f"lost-{time.monotonic_ns()}"
    call_ids = call_ids_at(setup, masters[0], name)
    known, parked = next(call_ids), next(call_ids)
    sent: list[str] = []

    def post_next(_: int) -> Awaitable[httpx2.Response]:
        sent.append(next(call_ids))
        return post_webhook(client, replicas[0], full_report(sent[-1]))

    await post_until_taken(client, replicas[0], full_report(known))
    since = await log_length(replicas[0])
    poll = asyncio.create_task(poll_until_over(client, replicas[1], parked))
    await until_parked(client, replicas[1], 1)
    followed = Followed([], 0)
    stream = asyncio.create_task(follow_until_final(client, replicas[1].url, parked, followed))
    await eventually(lambda: bool(followed.events))
    streams_before = followed.streams

    async with (
        follow(client, replicas[1].url + EVENTS) as every_call,
        Prober(post_next) as webhooks,
        Prober(lambda _: get_call(client, replicas[1], known)) as polls,
    ):
        lose(masters[0])
        await asyncio.to_thread(setup.wait_for_promotion, masters)
        promoted_at = time.monotonic()
        await asyncio.to_thread(setup.allow_no_other_failover, masters)
        for probes in (webhooks, polls):
            await probes.until_success(promoted_at)
        healed_at = time.monotonic()
        await post_until_taken(client, replicas[0], full_report(parked))
        woken = await poll
        final = await stream
        changes = await every_call.until_call(parked)
        if isinstance(setup, SentinelSetup):  # in a Cluster they may come from a master that was not lost
            while "gap" not in {event.name for event in changes}:  # a sweep may tell of the call before that
                changes.append(await every_call.next())
        await asyncio.to_thread(find, masters[0])
        await asyncio.to_thread(setup.wait_until_whole)
        for probes in (webhooks, polls):
            await probes.until_successes(20)

    answered = await answers_of(replicas[0], 1, lambda one: "wait_s" not in one, since=since)
    assert slowest_s(answered) < LONGEST_ANSWER_S
    assert {answer.status for answer in (*webhooks.answers, *polls.answers)} <= {200, 503}
    for probes in (webhooks, polls):
        statuses = [answer.status for answer in probes.since(healed_at)]
        assert statuses.count(200) > len(statuses) / 2, "Redis may be late on a busy machine, but not most of the time"
    assert (woken.status_code, woken.json()["data"]["data_status"]) == (200, "complete")
    assert (final.data["data_status"], followed.streams) == ("complete", streams_before), "the stream stayed open"
    assert [event.data["data_status"] for event in changes if event.data.get("call_id") == parked][-1] == "complete"
    taken = [sent[answer.number] for answer in webhooks.since(healed_at) if answer.status == 200]
    await until_readable(client, replicas[1], taken)
    await eventually(lambda: wakes_at_once(client, replicas[0], replicas[1], name))
