"""Two replicas that share a Redis, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.traffic import open_client


@pytest.fixture(scope="package")
def pair(redis_process: RedisProcess) -> Iterator[tuple[Replica, Replica]]:
    """Replicas A and B of one service."""
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "pair"}
    first, second = Replica(**settings, from_nothing=True).start(), Replica(**settings).start()
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client
