"""Large heads, each within its limit, on thousands of connections: what they hold in memory is bounded in all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.eventually import eventually
from tests.support.memory import memory_of
from tests.support.raw_http import RawConnection, ask, get, post
from tests.support.replica import Replica

SECRET = "the-secret-of-these-tests"
TOKEN = "the-token-of-these-tests"
READER = b"Authorization: Bearer %b" % TOKEN.encode()
PADDING = [b"X-Padding-%d: %b" % (number, b"a" * 6_000) for number in range(10)]
MANY = 1_500
"""Unbounded, they took 105 MB."""
MAY_GROW_BYTES = 65_000_000
"""16 MiB for large heads, some 15 kB for each connection, and freed memory that the C library keeps."""


@pytest.fixture
def replica() -> Iterator[Replica]:
    """One of its own: its memory is looked at."""
    replica = Replica(vapi_webhook_secret=SECRET, api_read_tokens=TOKEN, log_level="error").start()
    yield replica
    replica.stop()


async def growth_by(replica: Replica, request: bytes) -> int:
    """By how many bytes the process grows while many connections have each sent the request."""
    await ask(replica.port, get(b"/"))
    before = memory_of(replica)
    connections = [await RawConnection.open(replica.port) for _ in range(MANY)]
    try:
        for connection in connections:
            await connection.send(request)
        await ask(replica.port, get(b"/health/live"))
        await asyncio.sleep(0.5)  # lets the last of them arrive
        return memory_of(replica) - before
    finally:
        for connection in connections:
            connection.abort()


async def test_a_connection_that_was_answered_does_not_keep_its_large_head(replica: Replica) -> None:
    assert await growth_by(replica, get(b"/", *PADDING)) < MAY_GROW_BYTES


async def test_large_heads_whose_bodies_never_come_take_bounded_memory(replica: Replica) -> None:
    unproven = post(b"", b"X-Signature: " + b"0" * 64, b"X-Timestamp: %d" % time.time(), *PADDING)
    assert await growth_by(replica, unproven.replace(b"Content-Length: 0", b"Content-Length: 9")) < MAY_GROW_BYTES
    proven = await ask(replica.port, post(b"{}", b"X-Vapi-Secret: " + SECRET.encode()))
    assert proven.status == 400


async def test_parked_polls_with_large_heads_take_bounded_memory(replica: Replica) -> None:
    assert await growth_by(replica, get(b"/api/v1/vapi/calls/nobody?wait=20", READER, *PADDING)) < MAY_GROW_BYTES


async def test_parked_polls_with_thousands_of_etags_take_bounded_memory(replica: Replica) -> None:
    etags = b",".join(b'"%d"' % number for number in range(7_000))
    poll = get(b"/api/v1/vapi/calls/nobody?wait=20", READER, b"If-None-Match: " + etags)
    assert await growth_by(replica, poll) < MAY_GROW_BYTES


async def test_a_large_head_is_served_again_once_the_others_are_gone(replica: Replica) -> None:
    await growth_by(replica, get(b"/api/v1/vapi/calls/nobody?wait=20", READER, *PADDING))

    async def is_served() -> bool:
        return (await ask(replica.port, get(b"/", *PADDING))).status == 200

    await eventually(is_served)


async def test_a_connection_may_send_one_large_head_after_the_other(replica: Replica) -> None:
    """Far more than may be held at once."""
    async with await RawConnection.open(replica.port) as connection:
        for _ in range(400):
            await connection.send(get(b"/health/live", *PADDING))
            assert (await connection.answer()).status == 200
