"""A batch of calls over two replicas: nobody loses sight of it, whoever goes away, and each phone rings once."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import chain
from typing import Any, Final

import httpx2
import pytest

from tests.support.call_requests import REQUIRED
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.load_balancer import LoadBalancer
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.replica import Replica
from tests.support.routes import BATCH, BY_PHONE
from tests.support.service_rights import RULE
from tests.support.spool_site import hanging
from tests.support.traffic import ask_until_served, get_when_served, open_client

ADMIN: Final = {"Authorization": "Bearer admin"}
HEADERS: Final = {**ADMIN, "Idempotency-Key": "key-1"}

StartPair = Callable[..., tuple[Replica, Replica]]


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        fake.be_slow(1.0)
        yield fake


@pytest.fixture
def start_pair(start_replica: Callable[..., Replica], vapi: FakeVapi) -> StartPair:
    def start(redis: RedisProcess, **more: object) -> tuple[Replica, Replica]:
        where = {"redis_url": redis.url, "redis_key_prefix": f"batches-{secrets.token_hex(4)}"}
        settings = {**where, "api_admin_tokens": "admin", **vapi.settings, **more}
        return start_replica(**settings), start_replica(**settings)

    return start


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        client.headers.update(ADMIN)
        yield client


def batch_of(count: int, *, max_concurrent: int) -> dict[str, Any]:
    requests = [{**REQUIRED, "providerPhone": f"+1864555{number:04d}"} for number in range(count)]
    return {"requests": requests, "max_concurrent": max_concurrent}


def rings(vapi: FakeVapi) -> Counter[str]:
    """How often VAPI was asked to dial each number."""
    return Counter(received.json["customer"]["number"] for received in vapi.received if received.path == "/call")


async def standing_of(client: httpx2.AsyncClient, url: str, batch_id: str) -> dict[str, Any]:
    answer = await get_when_served(client, f"{url}{BATCH}/{batch_id}")
    assert answer.status_code == 200, answer.text
    standing: dict[str, Any] = answer.json()
    return standing


async def are_asked(vapi: FakeVapi, count: int) -> None:
    async def is_so() -> bool:
        return len(vapi.received) >= count

    await eventually(is_so)


async def ask_for(client: httpx2.AsyncClient, url: str, batch: dict[str, Any]) -> httpx2.Response:
    return await ask_until_served(partial(client.post, url + BATCH, json=batch, headers=HEADERS))


def begin(client: httpx2.AsyncClient, replica: Replica, batch: dict[str, Any]) -> asyncio.Task[httpx2.Response]:
    """A request for a batch whose caller need not stay."""
    return asyncio.create_task(ask_for(client, replica.url, batch))


async def batch_id_in_log_of(replica: Replica) -> str:
    """From the access line of a request for one; lines are written a little later."""
    found: list[str] = []

    async def is_there() -> bool:
        found[:] = [json.loads(line)["batch_id"] for line in replica.log.splitlines() if '"batch_id"' in line]
        return bool(found)

    await eventually(is_there)
    return found[-1]


async def test_a_batch_that_takes_long_is_answered_before_the_load_balancer_gives_up(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(redis_process)
    balancer = LoadBalancer(one.port, other.port).start()
    batch = batch_of(30, max_concurrent=1)
    try:
        first = await ask_for(client, balancer.url, batch)
        begun = first.json()
        assert (first.status_code, begun["success"], begun["total"]) == (202, True, 30)
        assert 0 < begun["done"] < 30
        assert [result is None for result in begun["results"]] == [False] * begun["done"] + [True] * (
            30 - begun["done"]
        )
        refused = await ask_for(client, balancer.url, batch_of(2, max_concurrent=1))
        assert refused.status_code == 422
        again = await ask_for(client, balancer.url, batch)
        while again.status_code == 202:
            assert again.json()["batch_id"] == begun["batch_id"]
            again = await ask_for(client, balancer.url, batch)
        standings = [await standing_of(client, replica.url, begun["batch_id"]) for replica in (one, other)]
    finally:
        balancer.stop()
    assert (again.status_code, again.json()) == (200, {"success": True, "results": standings[0]["results"]})
    assert standings[0] == standings[1]
    assert [result["data"]["call_id"] for result in again.json()["results"]] == list(vapi.calls)
    assert set(rings(vapi).values()) == {1}


async def test_a_batch_goes_on_when_its_caller_goes_away(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(redis_process)
    batch = batch_of(6, max_concurrent=2)
    asking = begin(client, one, batch)
    await are_asked(vapi, 1)
    asking.cancel()
    answer = await ask_for(client, other.url, batch)
    assert (answer.status_code, [result["success"] for result in answer.json()["results"]]) == (200, [True] * 6)
    assert sorted(rings(vapi).values()) == [1] * 6


async def test_of_a_dead_replicas_batch_each_call_is_known_to_be_placed_or_not_or_unknown(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(redis_process)
    batch = batch_of(20, max_concurrent=2)
    asking = begin(client, one, batch)
    await are_asked(vapi, 5)
    one.kill()
    with pytest.raises(httpx2.TransportError):
        await asking
    rung = rings(vapi)
    answer = await ask_for(client, other.url, batch)
    results = answer.json()["results"]
    assert (answer.status_code, len(results)) == (200, 20)
    said = {
        "placed": [index for index, result in enumerate(results) if result["success"]],
        "unknown": [index for index, result in enumerate(results) if "nobody knows" in result.get("error", "")],
        "not placed": [index for index, result in enumerate(results) if "was not placed" in result.get("error", "")],
    }
    assert sorted(chain.from_iterable(said.values())) == list(range(20)), said
    numbers = [request["providerPhone"] for request in batch["requests"]]
    assert {numbers[index] for index in said["placed"] + said["unknown"]} >= rung.keys()
    assert len(said["placed"]) >= 2
    assert 1 <= len(said["unknown"]) <= 2
    batch_id = await batch_id_in_log_of(other)
    standing = await standing_of(client, other.url, batch_id)
    assert (standing["done"], standing["results"]) == (20, results)
    again = await ask_for(client, other.url, batch)
    assert (again.status_code, again.json()) == (200, answer.json())
    assert rings(vapi) == rung, "a repeated batch phones nobody"


async def test_a_replica_that_was_only_frozen_dials_nobody_who_was_said_not_to_be_dialled(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(redis_process)
    batch = batch_of(10, max_concurrent=1)
    asking = begin(client, one, batch)
    await are_asked(vapi, 2)
    os.kill(one.pid, signal.SIGSTOP)
    try:
        said = (await ask_for(client, other.url, batch)).json()["results"]
    finally:
        os.kill(one.pid, signal.SIGCONT)
    assert (await asking).status_code == 200
    rung = rings(vapi)
    numbers = [request["providerPhone"] for request in batch["requests"]]
    not_placed = {numbers[index] for index, result in enumerate(said) if "was not placed" in result.get("error", "")}
    assert not_placed.isdisjoint(rung)
    assert len(not_placed) + len(rung) == 10

    async def is_what_it_was_dialling_known() -> bool:
        results = (await ask_for(client, other.url, batch)).json()["results"]
        return len(rung) == len([result for result in results if result["success"]])

    await eventually(is_what_it_was_dialling_known)


async def test_a_replica_that_is_told_to_go_leaves_a_result_for_each_call(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    """Also where nobody waits for them any more."""
    one, other = start_pair(redis_process)
    batch = batch_of(30, max_concurrent=1)
    asking = begin(client, one, batch)
    await are_asked(vapi, 2)
    asking.cancel()
    one.terminate()
    assert one.wait() == 0
    answer = await ask_for(client, other.url, batch)
    results = answer.json()["results"]
    assert answer.status_code == 200
    rung = sum(rings(vapi).values())
    assert [result["success"] for result in results[: rung - 1]] == [True] * (rung - 1)
    assert all("The service stops; this call was not placed" in result["error"] for result in results[rung:])
    assert rings(vapi) == Counter(dict.fromkeys(rings(vapi), 1))


async def test_who_waits_at_a_replica_that_is_told_to_go_is_told_how_far_the_batch_is(
    vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(redis_process)
    batch = batch_of(15, max_concurrent=1)
    asking = begin(client, one, batch)
    await are_asked(vapi, 1)
    waiting = begin(client, other, batch)
    await are_asked(vapi, 3)
    other.terminate()
    answer = await waiting
    assert (answer.status_code, answer.json()["total"]) == (202, 15)
    assert 0 < answer.json()["done"] < 15
    assert other.wait() == 0
    assert (await asking).status_code == 200
    assert set(rings(vapi).values()) == {1}


async def test_while_redis_is_away_nobody_is_dialled_and_what_was_is_written_later(
    vapi: FakeVapi, start_pair: StartPair, own_redis: RedisProcess, client: httpx2.AsyncClient
) -> None:
    one, other = start_pair(own_redis, store_timeout_s="1.2")
    batch = batch_of(8, max_concurrent=1)
    asking = begin(client, one, batch)
    await are_asked(vapi, 2)
    with hanging(own_redis):
        answer = await asking
    results = answer.json()["results"]
    rung = rings(vapi)
    assert answer.status_code == 200
    assert [result["success"] for result in results] == [True] * len(rung) + [False] * (8 - len(rung))
    assert all("was not placed" in result["error"] for result in results[len(rung) :])
    same = {"success": True, "results": results}

    async def is_known_everywhere() -> bool:
        answers = [await ask_for(client, each.url, batch) for each in (one, other)]
        return all(each.status_code == 200 and each.json() == same for each in answers)

    await eventually(is_known_everywhere)
    assert rings(vapi) == rung


async def test_a_user_of_redis_that_may_do_only_what_the_service_does_is_enough(
    vapi: FakeVapi, start_pair: StartPair, own_redis: RedisProcess, client: httpx2.AsyncClient
) -> None:
    ask(own_redis, "ACL", "SETUSER", "service", "reset", "on", ">password", *RULE.replace("vapi:", "batches").split())
    vapi.be_slow(0)
    url = own_redis.url.replace("redis://", "redis://service:password@")
    one, other = start_pair(own_redis, redis_url=url)
    batch = batch_of(3, max_concurrent=2)
    answers = [await ask_for(client, each.url, batch) for each in (one, other)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (await get_when_served(client, f"{one.url}{BY_PHONE}+18645550001")).json()["count"] == 1
    denied: list[Any] = ask(own_redis, "ACL", "LOG")
    assert {str(entry["object"]) for entry in denied} <= {"client|setinfo"}  # only a client's name, from Redis 7.2


async def test_with_redis_away_no_batch_begins_and_the_same_request_begins_it_later(
    vapi: FakeVapi, start_pair: StartPair, own_redis: RedisProcess, client: httpx2.AsyncClient
) -> None:
    """Also where Redis had taken the beginning, and only its reply was late."""
    vapi.be_slow(0)
    one, _ = start_pair(own_redis, store_timeout_s="1.2")
    batch = batch_of(2, max_concurrent=1)
    with hanging(own_redis):
        refused = await client.post(one.url + BATCH, json=batch, headers=HEADERS)
    assert (refused.status_code, refused.headers["retry-after"], rings(vapi)) == (503, "1", Counter())

    async def is_placed() -> bool:
        answer = await ask_for(client, one.url, batch)
        return answer.status_code == 200 and all(result["success"] for result in answer.json()["results"])

    await eventually(is_placed)
    assert sorted(rings(vapi).values()) == [1, 1]
