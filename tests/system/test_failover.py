"""Two replicas on Sentinel and on Cluster: everything works as with one Redis, and goes on when a master is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.support.access_log import LONGEST_ANSWER_S, answers_of, log_length, slowest_s
from tests.support.cluster_setup import ClusterSetup
from tests.support.event_streams import Followed, follow, follow_until_final
from tests.support.eventually import eventually
from tests.support.failover import Prober, Setup, call_ids_at, poll_until_over, wakes_at_once, webhooks_taken
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup
from tests.support.replica import Replica
from tests.support.routes import CALLS, EVENTS
from tests.support.traffic import get_call, post_until_taken, post_webhook, until_parked
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
        both = [Replica(redis_url=setup.url) for _ in range(2)]
        for replica in both:
            stack.callback(replica.stop)
            replica.start()
        yield both[0], both[1]


async def test_messages_posted_to_both_replicas_are_one_record(client: httpx2.AsyncClient, replicas: Pair) -> None:
    for replica, body in zip(replicas, (full_report("one"), status_update("in-progress", "one")), strict=True):
        assert (await post_webhook(client, replica, body)).status_code == 200
    records = [(await get_call(client, replica, "one")).json()["data"] for replica in replicas]
    assert records[0] == records[1]
    assert (records[0]["status"], records[0]["data_status"]) == ("ended", "complete")


async def test_a_poll_is_woken_by_a_webhook_to_the_other_replica(client: httpx2.AsyncClient, replicas: Pair) -> None:
    await eventually(lambda: wakes_at_once(client, replicas[0], replicas[1], "woken"))


async def test_a_deleted_call_stays_deleted_on_both_replicas_and_its_parked_poll_gets_404(
    client: httpx2.AsyncClient, replicas: Pair
) -> None:
    await post_webhook(client, replicas[0], status_update("ringing", "gone"))
    poll = asyncio.create_task(get_call(client, replicas[1], "gone", wait="20"))
    await until_parked(client, replicas[1], 1)
    assert (await client.delete(replicas[0].url + CALLS + "gone")).status_code == 200
    assert (await poll).status_code == 404
    assert (await post_webhook(client, replicas[1], full_report("gone"))).status_code == 200
    assert [(await get_call(client, replica, "gone")).status_code for replica in replicas] == [404, 404]


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
    async def stats(replica: Replica) -> dict[str, dict[str, int]]:
        answer = await client.get(f"{replica.url}/api/v1/vapi/cache/stats?limit=30")
        found: dict[str, dict[str, int]] = answer.json()["stats"]
        return found

    async def are_earlier_ones_counted() -> bool:
        counted: int = (await stats(replicas[0]))["webhooks"]["received"]
        return counted == sum([await webhooks_taken(client, replica) for replica in replicas])

    await eventually(are_earlier_ones_counted)
    before = await stats(replicas[0])
    for number in range(30):
        await post_webhook(client, replicas[number % 2], full_report(f"counted-{number}"))

    async def are_counted() -> bool:
        now = await stats(replicas[1])
        return (
            now["webhooks"]["received"] == before["webhooks"]["received"] + 30
            and now["calls"]["ended"] == before["calls"]["ended"] + 30
        )

    await eventually(are_counted)
    now = await stats(replicas[0])
    assert now["size"] == before["size"] + 30  # type: ignore[operator]
    assert {entry["callId"] for entry in now["entries"]} == {f"counted-{number}" for number in range(30)}  # type: ignore[index]
    assert len(now["replicas"]) == 2


async def test_both_replicas_are_ready_and_every_dependency_is_well(client: httpx2.AsyncClient, replicas: Pair) -> None:
    for replica in replicas:
        assert (await client.get(replica.url + "/health/ready")).status_code == 200
        dependencies = (await client.get(replica.url + "/health")).json()["dependencies"]
        assert {dependency["status"] for dependency in dependencies.values()} == {"ok"}


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
    known, parked, *sent = [next(call_ids) for _ in range(2000)]
    await post_webhook(client, replicas[0], full_report(known))
    since = await log_length(replicas[0])
    poll = asyncio.create_task(poll_until_over(client, replicas[1], parked))
    await until_parked(client, replicas[1], 1)
    followed = Followed([], 0)
    stream = asyncio.create_task(follow_until_final(client, replicas[1].url, parked, followed))
    await eventually(lambda: bool(followed.events))

    async with (
        follow(client, replicas[1].url + EVENTS) as every_call,
        Prober(lambda number: post_webhook(client, replicas[0], full_report(sent[number]))) as webhooks,
        Prober(lambda _: get_call(client, replicas[1], known)) as polls,
    ):
        lose(masters[0])
        await asyncio.to_thread(setup.wait_for_promotion, masters)
        promoted_at = time.monotonic()
        with ExitStack() as calm:
            await asyncio.to_thread(calm.enter_context, setup.without_another_failover(masters))
            await webhooks.first_success_s(promoted_at)
            await polls.first_success_s(promoted_at)
            healed_at = time.monotonic()
            await post_webhook(client, replicas[0], full_report(parked))
            woken = await poll
            final = await stream
            changes = await every_call.until_call(parked)
            if isinstance(setup, SentinelSetup):  # in a Cluster they may come from a master that was not lost
                while "gap" not in {event.name for event in changes}:  # a sweep may tell of the call before that
                    changes.append(await every_call.next())
            await asyncio.to_thread(find, masters[0])
            await asyncio.to_thread(setup.wait_until_whole)

    answered = await answers_of(replicas[0], 1, lambda one: "wait_s" not in one, since=since)
    assert slowest_s(answered) < LONGEST_ANSWER_S
    assert {answer.status for answer in (*webhooks.answers, *polls.answers)} <= {200, 503}
    assert {answer.status for answer in (*webhooks.since(healed_at), *polls.since(healed_at))} == {200}
    assert (woken.status_code, woken.json()["data"]["data_status"]) == (200, "complete")
    assert (final.data["data_status"], followed.streams) == ("complete", 1), "the stream stayed open"
    assert [event.data["data_status"] for event in changes if event.data.get("call_id") == parked][-1] == "complete"
    for answer in webhooks.since(healed_at):
        assert (await get_call(client, replicas[1], sent[answer.number])).status_code == 200
    await eventually(lambda: wakes_at_once(client, replicas[0], replicas[1], name))
