"""Offers to change the protocol, which we decline by serving the request as it is (RFC 9110, section 7.8)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.outage.raw_http import RawConnection, get, post
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


async def test_an_offer_that_cannot_be_declined_in_time_is_refused_and_the_connection_closed(attacked: Replica) -> None:
    request = post(json.dumps(status_update("ringing", "upgrade-2")).encode(), *H2C)
    middle = request.index(b"Upgrade: h2c") + 3
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(request[:middle])
        await asyncio.sleep(0.1)
        await connection.send(request[middle:])
        answer = await connection.answer()
        assert (answer.status, answer.header("connection")) == (400, "close")


async def test_an_offer_behind_another_request_does_not_spoil_that_ones_answer(attacked: Replica) -> None:
    request = post(json.dumps(status_update("ringing", "upgrade-3")).encode(), *H2C)
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(get(b"/health/live") + request)
        assert (await connection.answer()).status == 200


async def test_a_body_that_looks_like_an_offer_is_left_alone(attacked: Replica) -> None:
    body = json.dumps(status_update("ringing", "upgrade-4")).encode()[:-1] + b',\r\n"Upgrade: h2c":1}'
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(post(body))
        assert (await connection.answer()).status == 200
