"""Offers to change the protocol, which we decline by serving the request as it is (RFC 9110, section 7.8)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.raw_http import RawConnection, get, post
from tests.support.replica import Replica
from tests.support.vapi_sender import status_update

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB")
"""What the JDK's client adds to every first request to an http address."""

WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==",
)
TLS = (b"Connection: Upgrade", b"Upgrade: TLS/1.2")
"""What Apache's client adds."""

each_upgrade = pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET, TLS], ids=["h2c", "websocket", "TLS"])


@each_upgrade
async def test_a_poll_that_offers_an_upgrade_is_answered_and_so_is_the_next(
    attacked: Replica, upgrade: tuple[bytes, ...]
) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(get(b"/api/v1/vapi/calls/nobody?wait=0", *upgrade))
        first = await connection.answer()
        await connection.send(get(b"/api/v1/vapi/calls/nobody?wait=0"))
        second = await connection.answer()
    assert (first.status, second.status) == (202, 202)


@each_upgrade
async def test_a_webhook_that_offers_an_upgrade_is_taken_with_its_body(
    attacked: Replica, upgrade: tuple[bytes, ...]
) -> None:
    webhook = post(json.dumps(status_update("ringing", "upgrade-1")).encode(), *upgrade)
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(webhook)
        assert (await connection.answer()).json()["callId"] == "upgrade-1"


async def test_the_body_of_a_request_that_offers_an_upgrade_is_never_taken_for_a_request(attacked: Replica) -> None:
    smuggled = get(b"/health/live", b"X-Request-ID: smuggled")
    request = post(smuggled, *H2C)
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(request[: -len(smuggled)])
        await asyncio.sleep(0.1)
        await connection.send(smuggled)
        await connection.answer()
        await connection.send(get(b"/health/live", b"X-Request-ID: ours"))
        assert (await connection.answer()).header("x-request-id") == "ours"


def with_offer(upgrade: tuple[bytes, ...], call_id: str) -> bytes:
    """A webhook and, behind it, a poll for what it left."""
    webhook = post(json.dumps(status_update("ringing", call_id)).encode(), *upgrade)
    return webhook + get(f"/api/v1/vapi/calls/{call_id}".encode(), *upgrade)


async def test_an_offer_is_declined_wherever_its_head_is_cut(attacked: Replica) -> None:
    stream = with_offer(H2C, "upgrade-2")
    end_of_head = stream.index(b"\r\n\r\n") + 6
    for cut in (*range(1, end_of_head), *range(end_of_head, len(stream), 13)):
        async with await RawConnection.open(attacked.port) as connection:
            await connection.send(stream[:cut])
            await asyncio.sleep(0.002)
            await connection.send(stream[cut:])
            answers = [await connection.answer(within_s=60) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 200], cut
        assert answers[1].json()["data"]["call_id"] == "upgrade-2", cut


@pytest.mark.parametrize(
    "before", [get(b"/health/live"), get(b"/api/v1/vapi/calls/nobody?wait=0.05")], ids=["", "parked"]
)
async def test_an_offer_behind_another_request_is_declined_wherever_it_is_cut(attacked: Replica, before: bytes) -> None:
    stream = before + with_offer(H2C, "upgrade-3")
    for cut in range(len(before) - 2, len(stream), 17):
        async with await RawConnection.open(attacked.port) as connection:
            await connection.send(stream[:cut])
            await asyncio.sleep(0.002)
            await connection.send(stream[cut:])
            answers = [await connection.answer(within_s=60) for _ in range(3)]
        assert [answer.status for answer in answers[1:]] == [200, 200], cut


@pytest.mark.parametrize(
    "upgrade",
    [
        (b"CONNECTION: UPGRADE, http2-settings", b"UPGRADE: H2C"),
        (b"connection: upgrade", b"upgrade: h2c"),
        (b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: a", b"Upgrade: b"),
        (b"Upgrade: h2c", b"Connection: Upgrade, close"),
    ],
)
async def test_an_offer_is_declined_however_it_is_written(attacked: Replica, upgrade: tuple[bytes, ...]) -> None:
    body = json.dumps(status_update("ringing", "upgrade-5")).encode()
    chunked = post(body, *upgrade).replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    chunked = chunked.replace(body, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    for request in (post(body, *upgrade), chunked):
        async with await RawConnection.open(attacked.port) as connection:
            await connection.send(request)
            assert (await connection.answer(within_s=60)).json()["callId"] == "upgrade-5"


async def test_a_body_that_looks_like_an_offer_is_left_alone(attacked: Replica) -> None:
    body = json.dumps(status_update("ringing", "upgrade-4")).encode()[:-1] + b',\r\n"Upgrade: h2c":1}'
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(post(body))
        assert (await connection.answer()).status == 200
