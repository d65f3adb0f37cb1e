"""A process that runs short of descriptors: said, counted, and webhooks are still taken."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.eventually import eventually
from tests.support.raw_http import RawConnection, get, post
from tests.support.replica import Replica
from tests.support.service_api import connected, metric
from tests.support.vapi_sender import status_update

LIMIT = 128
STRANGERS = 150
"""More than there are descriptors."""

SECRET, TOKEN = "a-secret-nobody-knows", "a-token-nobody-knows"
BEARER = b"Authorization: Bearer " + TOKEN.encode()

HOLDS = {
    "an answered request whose body never ends": get(b"/", b"Content-Length: 1000") + b"x",
    "an answered request whose chunk never ends": get(b"/", b"Transfer-Encoding: chunked") + b"5\r\nx",
    "a webhook whose body never ends": post(b"x", b"X-Vapi-Signature: " + b"0" * 64).replace(b"h: 1", b"h: 1000"),
    "answers that nobody takes": get(b"/") * 3000,
    "a head that never ends": get(b"/")[:-2],
}
"""What strangers send to hold a connection."""


@pytest.fixture
def limited() -> Iterator[Replica]:
    """A replica that inherits a low limit: it takes all that it is allowed, which is as little."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, allowed[1]))
    try:
        replica = Replica(from_nothing=True, log_level="warning", vapi_webhook_secret=SECRET, api_read_tokens=TOKEN)
        replica.launch()
        resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    replica.wait_until_served()
    yield replica
    replica.stop()


def hold(port: int, data: bytes) -> socket.socket:
    """A connection that sends this, and never reads."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stranger.connect(("127.0.0.1", port))
    stranger.setblocking(False)
    with suppress(OSError):  # it may have been closed already
        stranger.send(data)
    return stranger


async def status_of_webhook(port: int, call_id: str) -> int:
    """0 when the connection is closed without an answer."""
    webhook = post(json.dumps(status_update("ringing", call_id)).encode(), b"X-Vapi-Secret: " + SECRET.encode())
    try:
        async with await RawConnection.open(port) as connection:
            await connection.send(webhook)
            return (await connection.answer(within_s=60)).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0


async def test_webhooks_are_taken_while_silent_connections_use_up_all_descriptors(limited: Replica) -> None:
    strangers = [await RawConnection.open(limited.port) for _ in range(STRANGERS)]
    try:
        for number in range(20):
            assert await status_of_webhook(limited.port, f"short-{number}") == 200
        async with connected(limited, Authorization=f"Bearer {TOKEN}") as client:
            assert await metric(client, 'http_connections_lost_total{kind="idle"}') > 0
    finally:
        for stranger in strangers:
            stranger.abort()
    await eventually(lambda: "descriptors.ran_short" in limited.log)
    assert limited.log.count("descriptors.ran_short") == 1


@pytest.mark.parametrize("kind", HOLDS)
async def test_webhooks_are_taken_while_strangers_hold_all_descriptors_with(limited: Replica, kind: str) -> None:
    strangers = [hold(limited.port, HOLDS[kind]) for _ in range(STRANGERS)]
    statuses = []
    try:
        for number in range(20):
            together = (status_of_webhook(limited.port, f"held-{number}-{half}") for half in range(2))
            statuses += await asyncio.gather(*together)
            strangers += [hold(limited.port, HOLDS[kind]) for _ in range(5)]
    finally:
        for stranger in strangers:
            stranger.close()
    assert statuses == [200] * 40


async def test_a_parked_poll_never_gives_way(limited: Replica) -> None:
    async with await RawConnection.open(limited.port) as poll:
        await poll.send(get(b"/api/v1/vapi/calls/parked?wait=10", BEARER))
        await asyncio.sleep(0)
        strangers = [hold(limited.port, HOLDS["a webhook whose body never ends"]) for _ in range(3 * STRANGERS)]
        try:
            assert await status_of_webhook(limited.port, "parked") == 200
            assert (await poll.answer(within_s=60)).status == 202  # its call never ends
        finally:
            for stranger in strangers:
                stranger.close()


async def test_who_comes_when_all_connections_are_busy_is_told_so_and_served_later(limited: Replica) -> None:
    parked = [await RawConnection.open(limited.port) for _ in range(STRANGERS)]
    try:
        for connection in parked:
            connection.write(get(b"/api/v1/vapi/calls/nobody?wait=25", BEARER))
        await asyncio.sleep(0)
        statuses = set()

        async def is_told() -> bool:
            async with await RawConnection.open(limited.port) as connection:
                with suppress(ConnectionError, asyncio.IncompleteReadError):  # not even a refusal could be afforded
                    await connection.send(get(b"/health/live"))
                    answer = await connection.answer()
                    statuses.add((answer.status, answer.header("retry-after")))
            return (503, "1") in statuses

        await eventually(is_told)
        assert statuses <= {(503, "1"), (200, None)}
    finally:
        for connection in parked:
            connection.abort()

    async def is_served() -> bool:
        try:
            async with await RawConnection.open(limited.port) as connection:
                await connection.send(get(b"/health/live"))
                return (await connection.answer(within_s=60)).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    await eventually(is_served)
