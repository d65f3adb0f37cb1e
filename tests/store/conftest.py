"""The store under test: once on the embedded fakeredis, once on a real redis-server, each test with keys of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest

from service.store.calls import CallStore
from tests.support.opened_store import AnswerWith, OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.talking_server import TalkingServer


@pytest.fixture(params=["embedded", "redis-server"])
def redis_url(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return "memory://"
    process: RedisProcess = request.getfixturevalue("redis_process")
    return process.url


@pytest.fixture
async def open_store(redis_url: str) -> AsyncIterator[OpenStore]:
    """Opens stores with the settings given as keyword arguments, in upper case; all are closed after the test."""
    opened: list[OpenedStore] = []

    async def open_one(*, at: str = redis_url, **variables: object) -> OpenedStore:
        opened.append(OpenedStore(at, {name: str(value) for name, value in variables.items()}))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def opened(open_store: OpenStore) -> OpenedStore:
    return await open_store()


@pytest.fixture
async def store(opened: OpenedStore) -> CallStore:
    return opened.store


@pytest.fixture
async def open_on(own_redis: RedisProcess) -> AsyncIterator[OpenStore]:
    """Opens stores on the test's own redis-server."""
    opened: list[OpenedStore] = []

    async def open_one(**variables: object) -> OpenedStore:
        opened.append(OpenedStore(own_redis.url, {name: str(value) for name, value in variables.items()}))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def answer_with() -> AsyncIterator[AnswerWith]:
    """A server that speaks Redis's protocol and has one answer to everything but the handshake; returns its port."""
    servers: list[TalkingServer] = []

    async def start(answer: bytes) -> int:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            parser = hiredis.Reader()
            while chunk := await reader.read(65_536):
                parser.feed(chunk)
                while (command := parser.gets()) is not False:
                    writer.write(b"+OK\r\n" if command[0] in (b"CLIENT", b"SELECT", b"HELLO") else answer)

        servers.append(await TalkingServer(talk).open())
        return servers[-1].port

    yield start
    for server in servers:
        await server.close()
