"""The two replicas that most of these tests share: an open one and a closed one, and clients of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import ADMIN, CREDENTIALS, connected, new_address


@pytest.fixture(scope="package")
def open_replica() -> Iterator[Replica]:
    """No credentials, embedded store: whoever is on this machine may do everything."""
    replica = Replica().start()
    yield replica
    replica.stop()


@pytest.fixture(scope="package")
def closed_replica(redis_process: RedisProcess) -> Iterator[Replica]:
    """A webhook secret, a read token and an admin token, and a real Redis."""
    replica = Replica(
        redis_url=redis_process.url, redis_key_prefix="api-closed", store_timeout_s=1.2, **CREDENTIALS
    ).start()
    yield replica
    replica.stop()


@pytest.fixture(scope="package")
def brief_replica() -> Iterator[Replica]:
    """Open; a report's grace is soon over, but not before a test on a busy machine has looked at what it began with."""
    replica = Replica(report_grace_s=3).start()
    yield replica
    replica.stop()


@pytest.fixture(scope="package")
def vapi() -> Iterator[FakeVapi]:
    """The VAPI that the dialling replica talks to; each test asks for numbers of its own."""
    with asyncio.Runner() as runner:
        fake = runner.run(FakeVapi().__aenter__())
        yield fake
        runner.run(fake.__aexit__())


@pytest.fixture(scope="package")
def dialling_replica(redis_process: RedisProcess, vapi: FakeVapi) -> Iterator[Replica]:
    """Closed like the closed replica, with a VAPI to place calls at."""
    settings = {**CREDENTIALS, **vapi.settings, "store_timeout_s": 1.2}
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="api-dialling", **settings).start()
    yield replica
    replica.stop()


@pytest.fixture
async def dialler(dialling_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """An admin's client of the dialling replica."""
    async with connected(dialling_replica, **ADMIN) as connection:
        yield connection


@pytest.fixture
async def client(open_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the open replica."""
    async with connected(open_replica) as connection:
        yield connection


@pytest.fixture
async def stranger(closed_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the closed replica that shows nothing of its own accord, at an address of its own."""
    async with connected(closed_replica, **{"X-Forwarded-For": new_address()}) as connection:
        yield connection


@pytest.fixture
async def brief_client(brief_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(brief_replica) as connection:
        yield connection
