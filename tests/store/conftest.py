"""The store under test: once on the embedded fakeredis, once on a real redis-server, each test with keys of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import hiredis
import msgspec
import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection

from service.load_config import load_settings
from service.redis_client.pipeline import Pipeline
from service.redis_client.topology import CONNECTIONS, open_redis
from service.store.calls import CallStore
from service.store.keys import Keys
from tests.support.eventually import PATIENCE_S
from tests.support.redis_server import RedisProcess
from tests.support.talking_server import TalkingServer

AnswerWith = Callable[[bytes], Awaitable[int]]
OpenStore = Callable[..., Awaitable["OpenedStore"]]


class _Connections(ConnectionPool):
    """A plain client's connections, made as the service makes its own: the embedded store is where they lead."""

    def __init__(self, connect: Callable[[], AbstractConnection]) -> None:
        super().__init__()
        self._connect = connect

    def make_connection(self) -> AbstractConnection:
        return self._connect()


class OpenedStore:
    """A store with a started pipeline, and a plain client that looks at the same keys.

    It waits for Redis as long as a busy machine may need, unless the test says ``STORE_TIMEOUT_S``.
    """

    def __init__(self, url: str, variables: dict[str, str]) -> None:
        prefix = f"test-{secrets.token_hex(4)}"
        self.settings = load_settings({"REDIS_URL": url, "REDIS_KEY_PREFIX": prefix, **variables})
        if "STORE_TIMEOUT_S" not in variables:
            self.settings = msgspec.structs.replace(self.settings, store_timeout_s=PATIENCE_S)
        self.keys = Keys(self.settings.redis_key_prefix)
        topology = open_redis(self.settings, self.keys.probes)
        assert isinstance(topology.commands, Pipeline)
        self.pipeline = topology.commands
        self.pipeline.start()
        self._pipelines = [self.pipeline]
        self.connect = topology.connect_subscriber
        self.store = CallStore(self.settings, self.pipeline, self.keys)
        self.redis = Redis(connection_pool=_Connections(self.connect))

    def start_pipeline(self, connections: int = CONNECTIONS, timeout_s: float | None = None) -> Pipeline:
        """One more process's way to the same Redis."""
        timeout_s = self.settings.store_timeout_s if timeout_s is None else timeout_s
        pipeline = Pipeline(self.connect, connections=connections, timeout_s=timeout_s)
        pipeline.start()
        self._pipelines.append(pipeline)
        return pipeline

    async def send(self, *command: str) -> None:
        """A command by the plain client, for which it has no method that mypy knows."""
        await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def expires_at_ms(self, key: bytes) -> int:
        return int(await self.redis.pexpiretime(key.decode()))

    async def keys_in_redis(self) -> list[bytes]:
        return sorted([key async for key in self.redis.scan_iter(match=f"{self.settings.redis_key_prefix}:*")])

    async def close(self) -> None:
        for pipeline in self._pipelines:
            await pipeline.close()
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()


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
def own_redis() -> Iterator[RedisProcess]:
    """A redis-server that a test may hang, kill, fill and demote."""
    process = RedisProcess("--enable-debug-command", "yes").start()
    yield process
    process.stop()


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
