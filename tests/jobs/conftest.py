from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.opened_store import OpenedStore
from tests.support.reconciling_replica import OneReplica, StartReplica
from tests.support.slow_proxy import SlowProxy


@pytest.fixture
async def kestra() -> AsyncIterator[FakeKestra]:
    async with FakeKestra() as kestra:
        yield kestra


@pytest.fixture
async def opened(kestra: FakeKestra) -> AsyncIterator[OpenedStore]:
    store = OpenedStore("memory://", {"KESTRA_URL": kestra.url})
    yield store
    await store.close()


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as vapi:
        yield vapi


@pytest.fixture
async def held(vapi: FakeVapi) -> AsyncIterator[SlowProxy]:
    """The way to VAPI, which lets requests pass, and answers once its ``may_reply`` is set."""
    async with SlowProxy(int(vapi.url.rpartition(":")[2])) as proxy:
        proxy.may_reply.clear()
        yield proxy


@pytest.fixture
async def start(opened: OpenedStore) -> AsyncIterator[StartReplica]:
    """Starts replicas that share the store."""
    async with AsyncExitStack() as stack:

        async def start_one() -> OneReplica:
            return await stack.enter_async_context(OneReplica(opened))

        yield start_one


@pytest.fixture
async def replica(start: StartReplica) -> OneReplica:
    return await start()
