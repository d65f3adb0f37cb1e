"""What HAProxy with our configuration does between callers and replicas that hang up, refuse or are not there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.load_balancer import FakeReplica, LoadBalancer
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import open_client
from tests.support.vapi_sender import sample_bytes


@asynccontextmanager
async def balanced(a: FakeReplica, b: FakeReplica) -> AsyncIterator[tuple[LoadBalancer, httpx2.AsyncClient]]:
    async with a, b:
        balancer = LoadBalancer(a.port, b.port).start()
        try:
            async with open_client(base_url=balancer.url) as client:
                yield balancer, client
        finally:
            balancer.stop()


@pytest.mark.parametrize(
    ("method", "path", "headers", "times"),
    [
        ("POST", WEBHOOK, {}, 2),
        ("POST", WEBHOOK + "/", {}, 2),
        ("POST", "//api/v1/vapi/webhooks/vapi", {}, 2),
        ("POST", WEBHOOK + "/calls", {}, 1),
        ("HEAD", CALLS + "call-1", {}, 2),
        ("GET", CALLS + "call-1", {}, 2),
        ("GET", CALLS + "call-1?wait=20", {}, 1),
        ("GET", CALLS + "call-1", {"Prefer": "wait=20"}, 1),
        ("DELETE", CALLS + "call-1", {}, 1),
        ("POST", "/api/v1/vapi/calls", {}, 1),
        ("POST", "/api/v1/vapi/calls/batch", {}, 1),
        ("POST", CALLS + "call-1/subscriptions", {}, 1),
        ("POST", "/api/v1/vapi/calls?wait=1", {}, 1),
    ],
)
async def test_when_a_replica_hangs_up_only_what_may_be_repeated_is_sent_to_the_other(
    method: str, path: str, headers: dict[str, str], times: int
) -> None:
    a, b = FakeReplica(answers=None), FakeReplica(answers=None)
    body = sample_bytes("outbound-end-of-call-report-full") if method == "POST" else None
    async with balanced(a, b) as (balancer, client):
        answer = await client.request(method, balancer.url + path, headers=headers, content=body)
    assert answer.status_code == 502
    assert sorted([len(a.asked), len(b.asked)]) == [times - 1, 1]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_answer_is_never_asked_for_again_whatever_it_says(status: int) -> None:
    a, b = FakeReplica(answers=status), FakeReplica(answers=status)
    requests = [("POST", WEBHOOK), ("GET", CALLS + "call-1"), ("POST", "/api/v1/vapi/calls"), ("DELETE", CALLS + "x")]
    async with balanced(a, b) as (_, client):
        for method, path in requests:
            assert (await client.request(method, path)).status_code == status
    assert len(a.asked) + len(b.asked) == len(requests)


async def test_replicas_that_are_not_ready_are_asked_when_no_other_is() -> None:
    a, b = FakeReplica(ready=503), FakeReplica(ready=503)

    async def are_found_out() -> bool:
        return min(a.checks, b.checks) >= 2

    async with balanced(a, b) as (_, client):
        await eventually(are_found_out)
        assert (await client.get(CALLS + "call-1")).status_code == 200


async def test_without_any_replica_the_answer_has_the_form_of_all_failures() -> None:
    a, b = FakeReplica(), FakeReplica()
    async with a, b:
        ports = a.port, b.port
    balancer = LoadBalancer(*ports).start()
    try:
        async with open_client(base_url=balancer.url) as client:
            answer = await client.get(CALLS + "call-1")
    finally:
        balancer.stop()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"success": False, "error": "No replica is available"}


async def test_a_caller_cannot_choose_the_address_that_replicas_believe() -> None:
    a, b = FakeReplica(), FakeReplica()
    async with balanced(a, b) as (_, client):
        await client.get("/", headers={"X-Forwarded-For": "192.0.2.1"})
    [head] = a.asked + b.asked
    assert re.findall(r"^x-forwarded-for: (\S+)", head, re.MULTILINE | re.IGNORECASE)[-1] == "127.0.0.1"


async def test_what_goes_wrong_is_logged_without_the_phone_number() -> None:
    async with balanced(FakeReplica(answers=None), FakeReplica(answers=None)) as (balancer, client):
        await client.get(CALLS + "by-phone/+18641234567")
        await eventually(lambda: " 502 " in balancer.log)
    assert "8641234567" not in balancer.log


async def test_while_redis_hangs_one_replica_is_asked_and_its_503_is_the_answer(
    own_redis: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replicas = [start_replica(redis_url=own_redis.url, allow_unauthenticated="1") for _ in range(2)]
    balancer = LoadBalancer(*(replica.port for replica in replicas)).start()
    body = sample_bytes("outbound-end-of-call-report-full")
    requests = [("POST", WEBHOOK, body), ("GET", CALLS + "call-1", None)] * 3
    own_redis.pause()
    try:
        async with open_client(base_url=balancer.url, timeout=40) as client:
            for number, (method, path, content) in enumerate(requests):
                answer = await client.request(method, path, content=content, headers={"X-Request-ID": f"hung-{number}"})
                assert (answer.status_code, answer.json()["success"]) == (503, False)

        async def all_are_logged() -> bool:
            return sum(replica.log.count('"request_id":"hung-') for replica in replicas) >= len(requests)

        await eventually(all_are_logged)
    finally:
        own_redis.resume()
        balancer.stop()
    log = "".join(replica.log for replica in replicas)
    assert [log.count(f'"request_id":"hung-{number}"') for number in range(len(requests))] == [1] * len(requests)
