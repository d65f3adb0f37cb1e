"""What only Sentinels do: some of them hang or are gone, and one that answers is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.failover import wakes_at_once
from tests.support.redis_server import free_port
from tests.support.redis_topologies import CLIENT, SERVICE, SentinelSetup
from tests.support.replica import Replica
from tests.support.traffic import post_until_taken, post_webhook, until_readable, until_ready
from tests.support.vapi_sender import full_report


@pytest.fixture(scope="module")
def setup() -> Iterator[SentinelSetup]:
    with ExitStack() as stack:
        setup = SentinelSetup()
        stack.callback(setup.stop)
        yield setup.start()


async def test_one_sentinel_that_answers_is_enough_to_start(
    client: httpx2.AsyncClient, setup: SentinelSetup, start_replica: Callable[..., Replica]
) -> None:
    hung, alive = setup.sentinels[:2]
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{hung.port},127.0.0.1:{alive.port}"
    url = f"redis+sentinel://{':'.join(CLIENT)}@{hosts}/{SERVICE}"
    hung.pause()
    try:
        first, second = start_replica(redis_url=url), start_replica(redis_url=url)
        await post_until_taken(client, first, full_report("one-sentinel"))
        await until_readable(client, second, ["one-sentinel"])
        await eventually(lambda: wakes_at_once(client, first, second, "one-sentinel"))
    finally:
        hung.resume()


async def test_without_any_sentinel_replicas_that_are_connected_go_on(
    client: httpx2.AsyncClient, setup: SentinelSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=setup.url)
    await post_until_taken(client, replica, full_report("connected"))
    for sentinel in setup.sentinels:
        sentinel.stop()
    try:
        await post_until_taken(client, replica, full_report("connected-2"))
        await until_readable(client, replica, ["connected-2"])
    finally:
        for sentinel in setup.sentinels:
            sentinel.start()


async def test_a_service_that_the_sentinels_do_not_know_is_not_ready_and_does_not_stop_the_start(
    client: httpx2.AsyncClient, setup: SentinelSetup, start_replica: Callable[..., Replica]
) -> None:
    await until_ready(client, start_replica(redis_url=setup.url))
    replica = start_replica(redis_url=setup.url.replace(SERVICE, "elsewhere"))
    assert (await client.get(replica.url + "/health/ready")).status_code == 503
    assert (await post_webhook(client, replica, full_report("unknown-service"))).status_code == 503
