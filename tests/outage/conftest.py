"""A replica that is attacked, and a well-behaved client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.traffic import open_client


@pytest.fixture(scope="package")
def attacked(redis_process: RedisProcess) -> Iterator[Replica]:
    replica = Replica(
        from_nothing=True,  # its memory is looked at
        redis_url=redis_process.url,
        redis_key_prefix="attacked",
        store_timeout_s=1.2,
        max_body_bytes=2_000_000,
        log_level="warning",
        allow_unauthenticated="1",
    ).start()
    yield replica
    replica.stop()


@pytest.fixture
async def client(attacked: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A well-behaved client of the attacked replica."""
    async with open_client(base_url=attacked.url) as client:
        yield client
