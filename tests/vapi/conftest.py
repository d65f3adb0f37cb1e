"""A fake VAPI, a client of it, and an order for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from service.load_config import load_settings
from service.vapi.client import VapiClient
from tests.support.eventually import PATIENCE_S
from tests.support.fake_vapi import FakeVapi


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


ORDER: Final[dict[str, Any]] = {
    "assistant": {"name": "Concierge caller", "firstMessage": "Hi – grüezi."},
    "customer": {"number": "+18645550123"},
    "metadata": {"providerName": "Müller & Söhne"},
}


def order_at(vapi: FakeVapi) -> dict[str, Any]:
    return {**ORDER, "phoneNumberId": vapi.phone_number_id}


@pytest.fixture
async def client(vapi: FakeVapi) -> AsyncIterator[VapiClient]:
    """As the service has it, but for its patience, which a busy machine cannot exhaust."""
    client = VapiClient(load_settings(vapi.settings), ask_s=PATIENCE_S, write_s=PATIENCE_S, connect_s=PATIENCE_S)
    yield client
    await client.close()


@pytest.fixture
async def hurried(vapi: FakeVapi) -> AsyncIterator[VapiClient]:
    """For a VAPI that is silent: the wait is soon over, but an order has reached it by then."""
    client = VapiClient(load_settings(vapi.settings), ask_s=1.0, write_s=3.0, connect_s=PATIENCE_S)
    yield client
    await client.close()
