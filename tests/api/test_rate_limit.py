"""RATE_LIMIT_PER_MINUTE: webhooks per client address, counted over all replicas; steps aside while Redis is away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import httpx2
import pytest

from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.vapi_sender import full_report

LIMIT = 5


@pytest.fixture
def limited(
    start_replica: Callable[..., Replica], redis_process: RedisProcess, request: pytest.FixtureRequest
) -> list[Replica]:
    prefix = f"rate-{request.node.name}"[:60].replace("[", "-").replace("]", "")
    settings = {"redis_url": redis_process.url, "redis_key_prefix": prefix, "rate_limit_per_minute": LIMIT}
    return [start_replica(**settings, allow_unauthenticated=1) for _ in range(2)]


def post(replica: Replica, number: int, client: str = "203.0.113.7") -> httpx2.Response:
    headers = {"X-Forwarded-For": client}
    return httpx2.post(f"{replica.url}/api/v1/vapi/webhook", json=full_report(f"rate-{number}"), headers=headers)


def within_a_minute(replicas: list[Replica], count: int) -> list[httpx2.Response]:
    """The answers to so many webhooks of one address. A new minute begins the count anew: then another address is tried."""
    for client in itertools.count(100):
        minute = time.time() // 60
        answers = [post(replicas[number % 2], number, f"203.0.113.{client}") for number in range(count)]
        if time.time() // 60 == minute:
            return answers
    raise AssertionError


def test_the_limit_holds_over_all_replicas(limited: list[Replica]) -> None:
    statuses = [answer.status_code for answer in within_a_minute(limited, LIMIT + 3)]
    assert statuses == [200] * LIMIT + [429] * 3


def test_a_refusal_says_when_to_try_again(limited: list[Replica]) -> None:
    refused = within_a_minute(limited, LIMIT + 1)[-1]
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_every_address_has_a_limit_of_its_own(limited: list[Replica]) -> None:
    for number in range(LIMIT + 1):
        post(limited[0], number)
    assert post(limited[0], 99, "203.0.113.8").status_code == 200


def test_it_steps_aside_while_redis_is_away(start_replica: Callable[..., Replica], tmp_path: object) -> None:
    replica = start_replica(redis_url="redis://127.0.0.1:1", rate_limit_per_minute=1, spool_dir=tmp_path)
    assert [post_directly(replica, number) for number in range(3)] == [200, 200, 200]


def post_directly(replica: Replica, number: int) -> int:
    return httpx2.post(f"{replica.url}/api/v1/vapi/webhook", json=full_report(f"rate-{number}")).status_code
