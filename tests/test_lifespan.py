"""What the service starts, it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.routing import Router

from service.assembly import assemble
from service.lifespan import lifespan_of
from service.load_config import load_settings
from tests.support.redis_server import RedisProcess


async def test_nothing_runs_on_after_the_end_though_redis_hangs() -> None:
    redis = RedisProcess().start()
    try:
        before = asyncio.all_tasks()
        state, topology = assemble(load_settings({"REDIS_URL": redis.url, "KESTRA_URL": "http://127.0.0.1:9"}))
        async with lifespan_of(state, topology)(Router()):
            await state.store_health.probe()
            redis.pause()
            assert state.resumer is not None
            await asyncio.sleep(0.3)  # the last probe is not valid any more
            await state.store_health.probe(within_s=0.01)
            with suppress(TimeoutError):
                await asyncio.wait_for(state.resumer.subscribe(b"call-1", b"execution1"), 0.01)
        assert asyncio.all_tasks() - before == set()
    finally:
        redis.resume()
        redis.stop()
