"""A fake VAPI and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.load_config import load_settings
from service.vapi.client import VapiClient
from tests.support.eventually import PATIENCE_S
from tests.support.fake_vapi import FakeVapi


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


@pytest.fixture
async def client(vapi: FakeVapi) -> AsyncIterator[VapiClient]:
    """As the service has it, but for its patience, which a busy machine cannot exhaust."""
    client = VapiClient(load_settings(vapi.settings), ask_s=PATIENCE_S, write_s=PATIENCE_S, connect_s=PATIENCE_S)
    yield client
    await client.close()


@pytest.fixture
async def hurried(vapi: FakeVapi) -> AsyncIterator[VapiClient]:
    """For a VAPI that is silent: the wait is over within a second."""
    client = VapiClient(load_settings(vapi.settings), ask_s=1.0, write_s=0.6)
    yield client
    await client.close()
