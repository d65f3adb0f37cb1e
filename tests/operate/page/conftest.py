"""Chromium and a closed replica on a Redis of its own, which a test may stop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from playwright.async_api import Browser

from tests.support.ops_page import chromium
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import CREDENTIALS


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def replica(own_redis: RedisProcess, start_replica: Callable[..., Replica]) -> Replica:
    return start_replica(redis_url=own_redis.url, service_replica_id="replica-a", store_timeout_s=0.5, **CREDENTIALS)
