"""The store under test, opened on any Redis, with keys of its own."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection

from service.load_config import load_settings
from service.redis_client.pipeline import Pipeline
from service.redis_client.topology import CONNECTIONS, open_redis
from service.store.calls import CallStore
from service.store.keys import Keys
from tests.support.eventually import PATIENCE_S

AnswerWith = Callable[[bytes], Awaitable[int]]
OpenStore = Callable[..., Awaitable["OpenedStore"]]
"""What the fixtures of these names in tests/store/conftest.py are."""


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
