"""RATE_LIMIT_PER_MINUTE: webhooks per client address, counted over all replicas; steps aside while Redis is away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from tests.support.access_log import log_length
from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import new_address, new_call_id
from tests.support.traffic import open_client, post_despite_late_disk, post_webhook
from tests.support.vapi_sender import full_report

LIMIT = 5
STEPPED_ASIDE = "rate_limit.stepped_aside"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture
def limited(start_replica: Callable[..., Replica], redis_process: RedisProcess) -> list[Replica]:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": new_call_id(), "rate_limit_per_minute": LIMIT}
    return [start_replica(**settings, store_timeout_s=1.2, allow_unauthenticated=1) for _ in range(2)]


async def post(client: httpx2.AsyncClient, replica: Replica, address: str) -> httpx2.Response:
    return await post_webhook(client, replica, full_report(new_call_id()), **{"X-Forwarded-For": address})


async def steps_aside(replicas: list[Replica]) -> int:
    """How many webhooks they have passed uncounted so far, because Redis was late."""
    for replica in replicas:
        await log_length(replica)
    return sum(replica.log.count(STEPPED_ASIDE) for replica in replicas)


async def answers_to(client: httpx2.AsyncClient, replicas: list[Replica], count: int) -> list[httpx2.Response]:
    """Those to so many webhooks of one address within a minute, all of them counted; it may take several addresses."""
    answers: list[httpx2.Response] = []

    async def are_all_counted() -> bool:
        address, minute, before = new_address(), time.time() // 60, await steps_aside(replicas)
        answers[:] = [await post(client, replicas[number % 2], address) for number in range(count)]
        return time.time() // 60 == minute and await steps_aside(replicas) == before

    await eventually(are_all_counted)
    return answers


async def test_the_limit_holds_over_all_replicas(client: httpx2.AsyncClient, limited: list[Replica]) -> None:
    statuses = [answer.status_code for answer in await answers_to(client, limited, LIMIT + 3)]
    assert statuses == [200] * LIMIT + [429] * 3


async def test_a_refusal_says_when_to_try_again(client: httpx2.AsyncClient, limited: list[Replica]) -> None:
    refused = (await answers_to(client, limited, LIMIT + 1))[-1]
    assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_every_address_has_a_limit_of_its_own(client: httpx2.AsyncClient, limited: list[Replica]) -> None:
    assert (await answers_to(client, limited, LIMIT + 1))[-1].status_code == 429
    assert (await post(client, limited[0], new_address())).status_code == 200


async def test_it_steps_aside_while_redis_is_away(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica], tmp_path: Path
) -> None:
    replica = start_replica(redis_url="redis://127.0.0.1:1", rate_limit_per_minute=1, spool_dir=tmp_path)
    answers = [await post_despite_late_disk(client, replica, full_report(new_call_id())) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
