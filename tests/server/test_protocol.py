"""Connections as service/server/protocol.py keeps them: on a server of its own, whose application tells what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from service.server.protocol import BoundedProtocol
from tests.support.eventually import eventually
from tests.support.raw_http import RawConnection, get, post
from tests.support.redis_server import free_port

KEEP_ALIVE_S = 4

LARGE_BYTES = 300_000
"""More than a socket takes at once."""


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the scope; ``/slow`` after more than the keep-alive time, ``/large`` at length."""
    await receive()
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5 * KEEP_ALIVE_S)
    told = {name: scope[name] for name in ("path", "http_version", "method", "scheme")}
    told |= {name: scope[name].decode() for name in ("raw_path", "query_string")}
    told["headers"] = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    body = json.dumps(told).encode().ljust(LARGE_BYTES if scope["path"] == "/large" else 0)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def connection() -> AsyncIterator[RawConnection]:
    config = uvicorn.Config(
        tell, http=BoundedProtocol, ws="none", lifespan="off", port=free_port(), log_config=None, access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def is_up() -> bool:
        return server.started

    await eventually(is_up)
    async with await RawConnection.open(config.port) as connection:
        yield connection
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b?x=%20y?z", "/a b", "x=%20y?z"),
        (b"http://elsewhere:1/a/b?c", "/a/b", "c"),
        (b"http://elsewhere?c", "/", "c"),
        (b"//a//b", "//a//b", ""),
        (b"/?", "/", ""),
    ],
)
async def test_the_target_is_taken_apart_once(connection: RawConnection, target: bytes, path: str, query: str) -> None:
    await connection.send(get(target, b"X-Case: Kept"))
    told = (await connection.answer()).json()
    assert (told["path"], told["query_string"]) == (path, query)
    assert (told["method"], told["http_version"], told["scheme"]) == ("GET", "1.1", "http")
    assert ["x-case", "Kept"] in told["headers"]


async def test_answers_of_all_sizes_arrive_whole_and_in_order(connection: RawConnection) -> None:
    await connection.send(get(b"/large") + post(b"body", target=b"/small") + get(b"/large") + get(b"/last"))
    assert [(await connection.answer()).json()["path"] for _ in range(4)] == ["/large", "/small", "/large", "/last"]


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(connection: RawConnection) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(4):
        last = loop.time()
        await connection.send(get(b"/"))
        await connection.answer()
        await asyncio.sleep(0.4 * KEEP_ALIVE_S)
    assert await connection.is_closed()
    assert loop.time() - last > 0.95 * KEEP_ALIVE_S


async def test_a_head_that_begins_late_in_the_keep_alive_has_time_of_its_own(connection: RawConnection) -> None:
    await connection.send(get(b"/"))
    await connection.answer()
    await asyncio.sleep(0.25 * KEEP_ALIVE_S)
    start, rest = get(b"/late").split(b" ", 1)
    await connection.send(start)
    await asyncio.sleep(KEEP_ALIVE_S)
    await connection.send(b" " + rest)
    assert (await connection.answer()).json()["path"] == "/late"


@pytest.mark.parametrize("drop", [b"\r\n", b""], ids=["line breaks", "one line break"])
async def test_line_breaks_do_not_keep_an_idle_connection(connection: RawConnection, drop: bytes) -> None:
    await connection.send(get(b"/"))
    await connection.answer()
    await connection.send(b"\r\n")
    for _ in range(100):
        try:
            await connection.send(drop)
        except ConnectionError:
            return
        if await connection.is_closed(within_s=0.2):
            return
    pytest.fail("the connection was kept for 20 s")


@pytest.mark.parametrize("host", ["elsewhere", "elsewhere:81", "[::1]", "[::1]:81"])
async def test_the_host_of_an_absolute_target_replaces_the_header(connection: RawConnection, host: str) -> None:
    await connection.send(get(b"http://%b/a" % host.encode()))
    told = (await connection.answer()).json()
    assert [value for name, value in told["headers"] if name == "host"] == [host]


async def test_a_request_that_takes_longer_than_the_keep_alive_is_answered(connection: RawConnection) -> None:
    await connection.send(get(b"/"))
    await connection.answer()
    await connection.send(get(b"/slow"))
    assert (await connection.answer()).json()["path"] == "/slow"
    await connection.send(get(b"/again"))
    assert (await connection.answer()).json()["path"] == "/again"


async def test_an_http_1_0_connection_is_closed_behind_its_answer(connection: RawConnection) -> None:
    await connection.send(get(b"/").replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await connection.answer()
    assert (answer.json()["http_version"], answer.header("connection")) == ("1.0", "close")
    assert await connection.is_closed()
