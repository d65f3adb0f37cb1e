"""Heads of requests that are too large, ambiguous or forged: a 4xx, and never a header of theirs in our answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.support.raw_http import RawConnection, ask, get, post
from tests.support.replica import Replica
from tests.support.vapi_sender import sample_bytes

LIMIT = 64 * 1024


async def test_a_head_over_64_kib_in_one_piece_is_431(attacked: Replica) -> None:
    answer = await ask(attacked.port, get(b"/health/live", b"X-Large: " + b"a" * (LIMIT + 100)))
    assert answer.status == 431
    assert answer.json()["success"] is False
    assert answer.header("x-request-id")


async def test_a_head_just_below_64_kib_is_served(attacked: Replica) -> None:
    answer = await ask(attacked.port, get(b"/health/live", b"X-Large: " + b"a" * (LIMIT - 200)))
    assert answer.status == 200


async def test_a_head_over_64_kib_of_many_small_headers_is_431(attacked: Replica) -> None:
    headers = (b"X-%d: small" % number for number in range(6000))
    answer = await ask(attacked.port, get(b"/health/live", *headers))
    assert answer.status == 431


async def test_a_dribbled_head_that_never_ends_is_431_once_it_is_over_64_kib(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(b"GET /health/live HTTP/1.1\r\nHost: test\r\nX-Large: ")
        for _ in range(LIMIT // 2000 + 1):
            await connection.send(b"a" * 2000)
            await asyncio.sleep(0.001)
        assert (await connection.answer()).status == 431
        assert await connection.is_closed()


async def test_a_head_over_64_kib_behind_another_request_is_not_served(attacked: Replica) -> None:
    large = get(b"/health/live", b"X-Large: " + b"a" * (LIMIT + 100))
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(get(b"/health/live") + large)
        assert (await connection.answer()).status == 200
        with suppress(asyncio.IncompleteReadError):  # where both came at once, the first one's answer is the last
            assert (await connection.answer()).status == 431


async def test_a_sender_that_keeps_pouring_headers_in_is_cut_soon(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(b"GET /health/live HTTP/1.1\r\n")
        sent = await connection.send_until_refused(b"X-More: %b\r\n" % (b"a" * 65_000), 1000)
    assert sent < 1000


async def test_an_oversized_url_is_431(attacked: Replica) -> None:
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/" + b"a" * (LIMIT + 100)))
    assert answer.status == 431


async def test_a_url_within_the_limit_but_no_call_id_is_400(attacked: Replica) -> None:
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/" + b"a" * 60_000))
    assert answer.status == 400
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    "request_id",
    [b"evil\tid", b"evil id", b"a" * 65, b"%0d%0aSet-Cookie:1", "é".encode(), b"{{7*7}}", b""],
    ids=["tab", "space", "long", "encoded line break", "non-ASCII", "braces", "empty"],
)
async def test_a_request_id_that_is_none_is_replaced(attacked: Replica, request_id: bytes) -> None:
    answer = await ask(attacked.port, get(b"/health/live", b"X-Request-ID: " + request_id))
    assert answer.status == 200
    echoed = answer.header("x-request-id") or ""
    assert echoed.encode("latin-1") != request_id
    assert echoed.isalnum()


async def test_a_line_break_in_a_request_id_adds_no_header_to_the_answer(attacked: Replica) -> None:
    answer = await ask(attacked.port, get(b"/health/live", b"X-Request-ID: evil\r\nSet-Cookie: stolen=1"))
    assert answer.header("set-cookie") is None
    assert answer.header("x-request-id") == "evil"


@pytest.mark.parametrize(
    "target", [b"/api/v1/vapi/calls/a%0d%0aSet-Cookie:%20stolen=1", b"/api/v1/vapi/calls/a?wait=0%0d%0aX-Evil:%201"]
)
async def test_encoded_line_breaks_in_a_url_add_no_header_to_the_answer(attacked: Replica, target: bytes) -> None:
    answer = await ask(attacked.port, get(target))
    assert answer.status == 400
    assert {name for name, _ in answer.headers}.isdisjoint({"set-cookie", "x-evil"})


async def test_a_preference_with_a_line_break_is_not_echoed(attacked: Replica) -> None:
    request = get(b"/api/v1/vapi/calls/nobody?wait=0", b"Prefer: wait=0\rX-Evil: 1")
    answer = await ask(attacked.port, request)
    assert answer.status in (202, 400)
    assert answer.header("x-evil") is None


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5",),
        (b"Transfer-Encoding: chunked",),
        (b"Transfer-Encoding: identity, chunked",),
        (b"Content-Length : 10",),
    ],
    ids=["second length", "length and chunks", "length and odd chunks", "space before colon"],
)
async def test_a_request_whose_length_is_ambiguous_is_400_and_its_connection_closes(
    attacked: Replica, headers: tuple[bytes, ...]
) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(post(sample_bytes("hang"), *headers))
        assert (await connection.answer()).status == 400
        assert await connection.is_closed()


async def test_headers_given_twice_get_one_answer(attacked: Replica) -> None:
    twice = (b"X-Request-ID: one", b"X-Request-ID: two", b"Prefer: wait=0", b"Prefer: wait=0", b"If-None-Match: a")
    answer = await ask(attacked.port, get(b"/api/v1/vapi/calls/nobody", *twice))
    assert answer.status == 202
    assert len([value for name, value in answer.headers if name == "x-request-id"]) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00" * 4096,
        b"GET /\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nBad Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: a\x00b\r\n\r\n",
        b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
    ],
    ids=["TLS", "version", "no target", "zeros", "bytes", "header name", "zero in header", "CONNECT", "asterisk"],
)
async def test_what_is_not_http_is_refused_and_its_connection_closes(attacked: Replica, garbage: bytes) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(garbage)
        assert 400 <= (await connection.answer()).status < 500
