"""Large commands share the connections, and a busy event loop puts off no answer for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.errors import StoreUnavailableError
from tests.support.opened_store import OpenStore
from tests.support.redis_server import RedisProcess

LARGE = b"x" * 1_500_000


async def test_what_a_lane_leaves_because_it_is_large_goes_to_the_idle_ones(open_on: OpenStore) -> None:
    opened = await open_on()
    await opened.pipeline.execute(b"PING")
    writes = [opened.pipeline.execute(b"SET", opened.keys.probes[0] + b"%d" % n, LARGE) for n in range(12)]
    most_busy = 0
    for _ in range(20):  # turns of the loop, too few for Redis to have answered all
        await asyncio.sleep(0)
        most_busy = max(most_busy, sum(not connection.is_idle for connection in opened.pipeline._connections))
    assert most_busy == len(opened.pipeline._connections)
    assert await asyncio.gather(*writes) == [b"OK"] * 12


async def test_an_event_loop_that_is_always_busy_does_not_put_a_deadline_off_for_ever(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    await opened.pipeline.execute(b"PING")
    own_redis.pause()
    is_over = asyncio.Event()

    async def keep_busy() -> None:
        while not is_over.is_set():
            time.sleep(0.003)  # noqa: ASYNC251 - it is to block the loop
            await asyncio.sleep(0)

    busy = asyncio.create_task(keep_busy())
    with pytest.raises(StoreUnavailableError):
        async with asyncio.timeout(60):
            await opened.pipeline.execute(b"GET", opened.keys.probes[0])
    is_over.set()
    await busy
    own_redis.resume()
