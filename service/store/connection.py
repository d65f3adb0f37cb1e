"""Makes the connections to Redis that ``REDIS_URL`` asks for."""

from __future__ import annotations

from typing import Any, Final

from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.config import Settings
from service.errors import SettingsError

LANES: Final = 2


class RedisServer:
    """Where the records are: one Redis server, or the embedded one of ``memory://``."""

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {
            "socket_connect_timeout": settings.store_timeout_s,
            # Timeouts and retries are the pipeline's: it knows how long a request has waited already.
            "socket_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
            "protocol": 2,
        }
        self.is_embedded = settings.redis_url.startswith("memory://")
        if self.is_embedded:
            self._client: Redis = FakeRedis(server=FakeServer(), version=(7,), **options)
        else:
            try:
                self._client = Redis.from_url(settings.redis_url, **options)
            except (ValueError, TypeError) as exc:
                raise SettingsError(f"REDIS_URL: {exc}") from None

    def connect(self) -> AbstractConnection:
        """A new connection, not open yet; it opens itself at its first command."""
        connection: AbstractConnection = self._client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        await self._client.aclose()
