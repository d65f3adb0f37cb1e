"""Alerts about replicas: each fires by its fault. And none fires while all is well."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import httpx2

from tests.support.going_on import going_on
from tests.support.prometheus_server import Watch
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_outputs import full_disk, serves, service
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report, status_update

Start = Callable[..., Replica]

BY_A_BUSY_MACHINE: Final = {"VapiWebhooksSlow", "VapiWakesSlow", "VapiRedisSlow"}


async def test_nothing_fires_while_all_is_well(
    client: httpx2.AsyncClient, redis_process: RedisProcess, start_replica: Start, watch: Watch
) -> None:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "all-well"}
    pair = [start_replica(**settings) for _ in range(2)]
    prometheus = watch(*pair)
    fired: set[str] = set()

    async def send(number: int) -> None:
        await post_webhook(client, pair[0], status_update("in-progress", f"call-{number}"))
        poll = asyncio.create_task(get_call(client, pair[1], f"call-{number}", wait="20"))
        await post_webhook(client, pair[1], full_report(f"call-{number}"))
        assert (await poll).status_code == 200
        fired.update(prometheus.firing())

    async with going_on(send):
        await asyncio.sleep(10)  # longer than most windows are here
    assert fired <= BY_A_BUSY_MACHINE
    assert sum(prometheus.values('vapi_polls_total{result="200"}')) > 0


async def test_a_replica_that_is_down_and_then_all(start_replica: Start, watch: Watch) -> None:
    pair = [start_replica() for _ in range(2)]
    prometheus = watch(*pair)
    pair[0].kill()
    await prometheus.fires("VapiReplicaDown")
    assert "VapiAllReplicasDown" not in prometheus.firing()
    pair[1].kill()
    await prometheus.fires("VapiAllReplicasDown")
    pair[0].start()
    pair[1].start()
    await prometheus.is_quiet("VapiReplicaDown", "VapiAllReplicasDown")


async def test_descriptors_that_run_short(start_replica: Start, watch: Watch) -> None:
    replica = start_replica()
    prometheus = watch(replica)
    [open_now] = prometheus.values("process_open_fds")
    _, hard = resource.prlimit(replica.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (int(open_now * 1.2), hard))
    await prometheus.fires("VapiDescriptorsShort")
    resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (hard, hard))
    await prometheus.is_quiet("VapiDescriptorsShort")


async def test_lines_of_the_log_that_are_lost(client: httpx2.AsyncClient, watch: Watch) -> None:
    with service(full_disk(), log_format="json") as (url, _):
        await serves(url)
        replica: Any = SimpleNamespace(port=int(url.rpartition(":")[2]), url=url)
        prometheus = watch(replica)
        await post_webhook(client, replica, status_update("queued"))
        await prometheus.fires("VapiLogLinesLost")
