"""Alerts about Redis and the spool: each fires by its fault and is over when the fault is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from service.store.keys import Keys
from tests.support.going_on import going_on
from tests.support.prometheus_server import Watch
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.slow_proxy import SlowProxyProcess
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report, status_update

Start = Callable[..., Replica]

QUICK = {"store_timeout_s": 0.3}


async def test_a_redis_that_is_away(
    client: httpx2.AsyncClient, own_redis: RedisProcess, start_replica: Start, watch: Watch, tmp_path: Path
) -> None:
    plain = start_replica(redis_url=own_redis.url, **QUICK)
    spooling = start_replica(redis_url=own_redis.url, spool_dir=tmp_path / "spool", **QUICK)
    prometheus = watch(plain, spooling)
    expected = (
        "VapiRedisAway", "VapiRedisRefuses", "VapiWebhooksRefused", "VapiPollsFailing", "VapiNotificationsLost",
        "VapiSpoolWaiting",
    )  # fmt: skip
    assert not prometheus.firing() & set(expected)

    async def send(number: int) -> None:
        for replica in (plain, spooling):
            await asyncio.gather(
                post_webhook(client, replica, status_update("queued", f"call-{number}")),
                get_call(client, replica, f"call-{number}"),
            )

    async with going_on(send):
        own_redis.kill()
        await prometheus.fires(*expected)
        own_redis.start()
        await prometheus.is_quiet(*expected)


async def test_a_spool_that_fills_and_is_drained(
    client: httpx2.AsyncClient, own_redis: RedisProcess, start_replica: Start, watch: Watch, tmp_path: Path
) -> None:
    replica = start_replica(redis_url=own_redis.url, spool_dir=tmp_path / "spool", spool_max_bytes=100_000, **QUICK)
    prometheus = watch(replica)

    async def send(number: int) -> None:
        await post_webhook(client, replica, full_report(f"call-{number}", summary="x" * 1000))

    own_redis.kill()
    async with going_on(send):
        await prometheus.fires("VapiSpoolFilling")
    own_redis.start()
    await prometheus.is_quiet("VapiSpoolFilling", "VapiSpoolWaiting")


async def test_a_change_that_redis_can_never_take(
    client: httpx2.AsyncClient, own_redis: RedisProcess, start_replica: Start, watch: Watch, tmp_path: Path
) -> None:
    replica = start_replica(redis_url=own_redis.url, spool_dir=tmp_path / "spool", **QUICK)
    prometheus = watch(replica)
    own_redis.client.set(Keys("vapi").call(b"spoiled"), "not a hash")
    await post_webhook(client, replica, status_update("queued", "spoiled"))
    await prometheus.fires("VapiSpoolSetAside")


async def test_a_redis_that_is_slow(
    client: httpx2.AsyncClient, redis_process: RedisProcess, start_replica: Start, watch: Watch
) -> None:
    proxy = SlowProxyProcess(redis_process.port)
    try:
        replica = start_replica(redis_url=proxy.url, redis_key_prefix="slow", store_timeout_s=1.2)
        prometheus = watch(replica)
        expected = ("VapiRedisSlow", "VapiWebhooksSlow", "VapiWakesSlow")

        async def wake(number: int) -> None:
            polls = [asyncio.create_task(get_call(client, replica, f"slow-{number}-{i}", wait="20")) for i in range(5)]
            await asyncio.sleep(1)  # until they are parked; an alert does not mind those that are not yet
            await asyncio.gather(*(post_webhook(client, replica, full_report(f"slow-{number}-{i}")) for i in range(5)))
            await asyncio.gather(*polls)

        async with going_on(wake):
            proxy.delay(commands_s=0.1, replies_s=0.2)
            await prometheus.fires(*expected)
            proxy.delay()
            await prometheus.is_quiet("VapiRedisSlow")
    finally:
        proxy.stop()


@pytest.mark.parametrize("why", ["full", "read only"])
async def test_a_redis_that_answers_and_takes_nothing(
    why: str, client: httpx2.AsyncClient, own_redis: RedisProcess, start_replica: Start, watch: Watch
) -> None:
    replica = start_replica(redis_url=own_redis.url, **QUICK)
    prometheus = watch(replica)
    if why == "full":
        own_redis.client.config_set("maxmemory", 1)
    else:
        own_redis.client.replicaof("127.0.0.1", "1")

    async def send(number: int) -> None:
        await post_webhook(client, replica, status_update("queued", f"call-{number}"))

    async with going_on(send):
        await prometheus.fires("VapiRedisRefuses", "VapiWebhooksRefused")
        assert "VapiRedisAway" not in prometheus.firing()
