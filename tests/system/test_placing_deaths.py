"""A replica goes while it phones: on request it finishes first; killed, nobody is phoned a second time for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import httpx2
import pytest

from tests.support.call_requests import REQUIRED
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import BATCH, PLACE
from tests.support.traffic import ask_until_served, open_client

HEADERS: Final = {"Authorization": "Bearer admin", "Idempotency-Key": "key-1"}

StartPair = Callable[[], tuple[Replica, Replica]]


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        fake.be_slow(0.5)
        yield fake


@pytest.fixture
def start_pair(start_replica: Callable[..., Replica], redis_process: RedisProcess, vapi: FakeVapi) -> StartPair:
    def start() -> tuple[Replica, Replica]:
        where = {"redis_url": redis_process.url, "redis_key_prefix": f"deaths-{secrets.token_hex(4)}"}
        settings = {**where, "api_admin_tokens": "admin", **vapi.settings}
        return start_replica(**settings), start_replica(**settings)

    return start


async def place(replica: Replica, client: httpx2.AsyncClient) -> httpx2.Response:
    return await ask_until_served(partial(client.post, replica.url + PLACE, json=REQUIRED, headers=HEADERS))


async def place_batch(replica: Replica, client: httpx2.AsyncClient, batch: dict[str, Any]) -> httpx2.Response:
    return await ask_until_served(partial(client.post, replica.url + BATCH, json=batch, headers=HEADERS))


async def has_asked(vapi: FakeVapi) -> None:
    async def is_asked() -> bool:
        return bool(vapi.requests)

    await eventually(is_asked)


async def test_a_replica_that_is_told_to_go_finishes_its_call(vapi: FakeVapi, start_pair: StartPair) -> None:
    one, other = start_pair()
    async with open_client() as client:
        placing = asyncio.create_task(place(one, client))
        await has_asked(vapi)
        one.terminate()
        answer = await placing
        assert answer.status_code == 202
        assert (await place(other, client)).json() == answer.json()
    assert list(vapi.calls) == [answer.json()["data"]["call_id"]]


async def test_after_a_replicas_death_nobody_is_phoned_twice(vapi: FakeVapi, start_pair: StartPair) -> None:
    one, other = start_pair()
    async with open_client() as client:
        placing = asyncio.create_task(place(one, client))
        await has_asked(vapi)
        one.kill()
        with pytest.raises(httpx2.TransportError):
            await placing
        assert (await place(other, client)).status_code == 409
    assert len(vapi.requests) == 1


async def test_a_replica_that_can_wait_no_longer_says_what_it_knows_of_each_call(
    vapi: FakeVapi, start_pair: StartPair
) -> None:
    one, other = start_pair()
    batch = {"requests": [REQUIRED, REQUIRED], "max_concurrent": 1}
    for _ in range(2):
        vapi.hang_next()
    async with open_client() as client:
        placing = [asyncio.create_task(place(one, client)), asyncio.create_task(place_batch(one, client, batch))]

        async def are_asked() -> bool:
            return len(vapi.requests) == 2

        await eventually(are_asked)
        one.terminate()
        alone, both = await asyncio.gather(*placing)
        again = await place_batch(other, client, batch)
        assert (await place(other, client)).status_code == 409
    assert (alone.status_code, "nobody knows" in alone.json()["error"]) == (502, True)
    assert ("x-request-id" in alone.headers, "retry-after" in alone.headers) == (True, False)
    first, second = both.json()["results"]
    assert (both.status_code, first["success"], second["success"]) == (200, False, False)
    assert ("nobody knows" in first["error"], "was not placed" in second["error"]) == (True, True)
    assert again.json() == both.json(), "the same key is the same batch"
    assert len(vapi.calls) == 2
