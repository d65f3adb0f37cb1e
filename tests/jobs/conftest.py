from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.store.conftest import OpenedStore
from tests.support.fake_kestra import FakeKestra


@pytest.fixture
async def kestra() -> AsyncIterator[FakeKestra]:
    async with FakeKestra() as kestra:
        yield kestra


@pytest.fixture
async def opened(kestra: FakeKestra) -> AsyncIterator[OpenedStore]:
    store = OpenedStore("memory://", {"KESTRA_URL": kestra.url})
    yield store
    await store.close()
