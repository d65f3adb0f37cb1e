"""Replicas that a real Prometheus watches, with a client and traffic that goes on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.traffic import open_client

Watch = Callable[..., PrometheusServer]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as client:
        yield client


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A Redis that a test may kill."""
    redis = RedisProcess().start()
    yield redis
    redis.stop()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """Starts a Prometheus for the replicas given."""
    started: list[PrometheusServer] = []

    def start(*replicas: Replica, token: str | None = None) -> PrometheusServer:
        folder = tmp_path / f"prometheus-{len(started)}"
        folder.mkdir()
        started.append(PrometheusServer(folder, list(replicas), token=token))
        return started[-1].start()

    yield start
    for prometheus in started:
        prometheus.stop()


@asynccontextmanager
async def going_on(act: Callable[[int], Awaitable[object]], every_s: float = 0.1) -> AsyncIterator[None]:
    """Act again and again meanwhile, each time with another number. A connection that fails is part of the fault."""

    async def act_for_ever() -> None:
        for number in itertools.count():
            with suppress(httpx2.HTTPError):
                await act(number)
            await asyncio.sleep(every_s)

    acting = asyncio.create_task(act_for_ever())
    try:
        yield
    finally:
        acting.cancel()
        with suppress(asyncio.CancelledError):
            await acting
