"""Kestra's own engine for these tests: one JVM per version; a short selection unless ``KESTRA_TESTS=all``."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.kestra_engine.engine import Engine, EngineMissingError
from tests.kestra_engine.house import CALLBACK_KEY, TOKEN, House, client_settings, settings_of
from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica

HERE = Path(__file__).parent
VERSIONS = ("1.3.31", "2.0.0")
IS_ALL = os.environ.get("KESTRA_TESTS") == "all"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Plain ``make test`` runs what is marked as short, on one version; ``make test-kestra`` runs everything."""
    if IS_ALL:
        return
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("short") is None]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session", params=VERSIONS if IS_ALL else VERSIONS[-1:])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    try:
        engine = Engine(request.param, secrets={"VAPI_CACHE_TOKEN": TOKEN, "VAPI_CALLBACK_KEY": CALLBACK_KEY})
    except EngineMissingError as exc:
        pytest.skip(f"Kestra's own engine was NOT tried: {exc}")
    yield engine.start()
    engine.stop()


@pytest.fixture
async def house(
    request: pytest.FixtureRequest,
    engine: Engine,
    redis_process: RedisProcess,
    start_replica: Callable[..., Replica],
) -> AsyncIterator[House]:
    """With Redis keys of its own; ``@pytest.mark.settings(NAME=value)`` adds to the replicas' settings."""
    marker = request.node.get_closest_marker("settings")
    redis = {"REDIS_URL": redis_process.url, "REDIS_KEY_PREFIX": f"k{uuid.uuid4().hex[:8]}"}
    async with FakeVapi() as vapi:
        usual = {**redis, **settings_of(engine, vapi), **(marker.kwargs if marker else {})}

        def build(**settings: object) -> Replica:
            return start_replica(**{**usual, **settings})

        house = House(engine, vapi, build, client_settings(engine))
        yield house
        await house.close()
