"""Two replicas that share a Redis, one whose spool is looked into, a Redis to be harmed, who gets callbacks, a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from tests.support.callback_receiver import CallbackReceiver
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.spool_site import Site
from tests.support.traffic import open_client


@pytest.fixture(scope="package")
def pair(redis_process: RedisProcess) -> Iterator[tuple[Replica, Replica]]:
    """Replicas A and B of one service."""
    settings: dict[str, Any] = {"redis_url": redis_process.url, "redis_key_prefix": "pair", "store_timeout_s": 1.2}
    first, second = Replica(**settings, from_nothing=True).start(), Replica(**settings).start()
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture
async def redis(redis_process: RedisProcess) -> AsyncIterator[Redis]:
    """A client of the Redis that the session's tests share."""
    async with Redis.from_url(redis_process.url) as redis:
        yield redis


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisProcess]:
    """A redis-server that the tests of a file may hang, kill and change."""
    process = RedisProcess("--enable-debug-command", "yes").start()
    yield process
    process.stop()


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    with CallbackReceiver() as receiver:
        yield receiver


@pytest.fixture
async def open_site(
    own_redis: RedisProcess, tmp_path: Path, client: httpx2.AsyncClient
) -> AsyncIterator[Callable[..., Site]]:
    """Starts a replica with a spool; keyword arguments are settings."""
    sites: list[Site] = []

    def open_one(folder: Path = tmp_path / "spool", **settings: object) -> Site:
        sites.append(Site(own_redis, folder, client, **settings).start())
        return sites[-1]

    yield open_one
    for site in sites:
        site.replica.stop()
