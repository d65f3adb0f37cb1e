"""What the tests of the Kestra client share: settings for a fake, and clients that are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from service.config import Settings
from service.errors import UpstreamError
from service.kestra.client import KestraClient
from service.load_config import load_settings
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.fake_kestra import FakeKestra

PASSWORD = "s3cret:with/odd ä"


def settings_for(kestra: FakeKestra, **settings: str) -> Settings:
    given = {"kestra_url": kestra.url, "kestra_username": "ops@example.com", "kestra_password": PASSWORD} | settings
    return load_settings({name.upper(): value for name, value in given.items()})


@asynccontextmanager
async def connected(
    kestra: FakeKestra, *, within_s: float = PATIENCE_S, health_valid_s: float = 60.0, **settings: str
) -> AsyncIterator[KestraClient]:
    client = KestraClient(
        settings_for(kestra, **settings), ask_s=within_s, write_s=within_s, health_valid_s=health_valid_s
    )
    try:
        yield client
    finally:
        await client.close()


async def until_said(client: KestraClient, problem: str | None) -> None:
    """Return when Kestra is said to have this problem, or none. A busy machine may be late for the first look."""

    async def is_said() -> bool:
        found = await client.find_problem()
        return found is None if problem is None else problem in (found or "")

    await eventually(is_said)


async def refusal_of(work: Awaitable[object], *, is_outcome_unknown: bool = False) -> str:
    """The sentence of the trouble that this ends in."""
    with pytest.raises(UpstreamError) as caught:
        await work
    assert caught.value.is_outcome_unknown is is_outcome_unknown
    assert PASSWORD not in str(caught.value)
    return str(caught.value)
