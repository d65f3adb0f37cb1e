"""A barrage of hostile requests: ordinary ones go on succeeding beside it, and it leaves no memory behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx2

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.memory import memory_of
from tests.support.raw_http import RawConnection, get, post
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import open_client, post_until_taken
from tests.support.vapi_sender import full_report

ALLOWED_BYTES = 150_000_000
ATTACKERS = 8
ROUNDS = 12

HEAD = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\n"
ATTACKS = [
    post(b"[" * 1_500_000),
    post(b'{"message":{"type":"hang","text":"' + b"\\u0000" * 250_000 + b'"}}'),
    post(b'{"message":{"type":"hang","n":' + b"1e5," * 300_000),
    post(b"\xff" * 1_500_000),
    HEAD + b"Content-Length: 1000000000\r\n\r\n" + b"a" * 1_500_000,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65_536 + b"\r\n") * 60,
    HEAD + b"Content-Length: 1900000\r\n\r\n" + b"a" * 1_000_000,
    get(b"/health/live", b"X-Large: " + b"a" * 100_000),
    get(b"/" + b"a" * 63_000),
    get(b"/health/live") * 200,
    b"\x00" * 500_000,
]

COSTLY_ATTACKS = [
    post(b'{"message":{"type":"hang","odd":' + b'{"a":[' * 200_000),
    post(b'"' + b"\\ud83d" * 250_000 + b'"'),
]
"""Each costs the replica a tenth of a second or more, and many small objects."""


async def attack(port: int, order: random.Random, attacks: Sequence[bytes] = ATTACKS) -> None:
    """One attacker: each connection sends one attack, then goes away without caring for an answer."""
    for _ in range(ROUNDS):
        async with await RawConnection.open(port) as connection:
            try:
                async with asyncio.timeout(0.5):
                    await connection.send(order.choice(attacks))
                    await connection.answer()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue


async def is_served(ask: Callable[..., Awaitable[httpx2.Response]], route: str, **options: Any) -> None:
    """Return when it was; asked again only after a 503 that speaks of Redis, which is late on a busy machine."""

    async def is_answered() -> bool:
        answer = await ask(route, **options)
        assert answer.status_code == 200 or "Redis" in answer.json()["error"], answer.text
        return answer.status_code == 200

    await eventually(is_answered)


async def test_ordinary_requests_succeed_beside_a_barrage_that_leaves_no_memory_behind(
    attacked: Replica, client: httpx2.AsyncClient
) -> None:
    idle = peak = memory_of(attacked)
    barrage = asyncio.gather(*(attack(attacked.port, random.Random(seed)) for seed in range(ATTACKERS)))
    served = 0
    while not barrage.done():
        call_id = f"ordinary-{served}"
        await is_served(client.post, WEBHOOK, json=full_report(call_id))
        await is_served(client.get, CALLS + call_id)
        served += 1
        peak = max(peak, memory_of(attacked))
    await barrage
    assert served > 0
    assert peak - idle < ALLOWED_BYTES
    assert memory_of(attacked) - idle < ALLOWED_BYTES


async def test_bodies_that_are_costly_to_check_leave_no_memory_behind(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica(max_body_bytes=2_000_000, log_level="warning")
    idle = memory_of(replica)
    await asyncio.gather(*(attack(replica.port, random.Random(seed), COSTLY_ATTACKS) for seed in range(ATTACKERS)))
    async with open_client(base_url=replica.url) as client:
        assert (await client.get("/health/live")).status_code == 200
    assert memory_of(replica) - idle < ALLOWED_BYTES


async def test_bodies_in_flight_are_bounded_and_who_is_beyond_is_told_to_come_back(
    attacked: Replica, client: httpx2.AsyncClient
) -> None:
    """64 MiB in all: of 60 bodies of 1.9 MB that stop short of their end, the last must be refused."""
    connections = [await RawConnection.open(attacked.port) for _ in range(60)]
    answers = [asyncio.create_task(connection.answer()) for connection in connections]
    try:
        for connection in connections:
            await connection.send(HEAD + b"Content-Length: 1900001\r\n\r\n" + b"a" * 1_900_000)
        done, _ = await asyncio.wait(answers, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert refused.status == 503
        assert refused.header("retry-after") == "1"
    finally:
        for connection, answer in zip(connections, answers, strict=True):
            connection.abort()
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
    await post_until_taken(client, attacked, full_report("after-the-flood"))
