"""A master that its Sentinels and replicas no longer reach, but the service does: it is left for the promoted one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.failover import wakes_at_once
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup, ask, connections_of_the_service
from tests.support.replica import Replica
from tests.support.traffic import post_until_taken, post_webhook, until_readable
from tests.support.vapi_sender import full_report


@pytest.fixture
def setup() -> Iterator[SentinelSetup]:
    with ExitStack() as stack:
        setup = SentinelSetup(replicas=2)
        stack.callback(setup.stop)
        yield setup.start()


@pytest.fixture
def lose_master(setup: SentinelSetup) -> Callable[[], tuple[RedisProcess, RedisProcess]]:
    """Cuts the master off; returns it and the one that was promoted, once every Sentinel names that one."""

    def lose() -> tuple[RedisProcess, RedisProcess]:
        old = setup.master()
        setup.cut_off(old)
        setup.wait_for_promotion([old])
        return old, next(server for server in setup.servers if server is not old and _is_master(server))

    return lose


def _is_master(server: RedisProcess) -> bool:
    return bool(ask(server, "ROLE")[0] == b"master")


async def test_a_master_that_was_replaced_behind_our_back_is_left_by_every_connection(
    client: httpx2.AsyncClient,
    setup: SentinelSetup,
    lose_master: Callable[[], tuple[RedisProcess, RedisProcess]],
    start_replica: Callable[..., Replica],
) -> None:
    first, second = start_replica(redis_url=setup.url), start_replica(redis_url=setup.url)
    await post_until_taken(client, first, full_report("before"))
    old, new = await asyncio.to_thread(lose_master)

    async def is_left() -> bool:
        return not connections_of_the_service(old)

    await eventually(is_left)
    names = [f"after-{number}" for number in range(40)]
    await asyncio.gather(*(post_until_taken(client, first, full_report(name)) for name in names))
    await eventually(lambda: wakes_at_once(client, first, second, "woken"))
    await asyncio.to_thread(setup.rejoin, old)
    await asyncio.to_thread(setup.wait_until_whole)
    await until_readable(client, second, names)
    assert _is_master(new)


@pytest.mark.parametrize(("min_replicas", "wait_replicas"), [(0, 1), (1, 0)], ids=["the service", "the master"])
async def test_nothing_acknowledged_is_lost_to_a_partition_where_a_replica_is_asked_for_by(
    client: httpx2.AsyncClient,
    setup: SentinelSetup,
    lose_master: Callable[[], tuple[RedisProcess, RedisProcess]],
    start_replica: Callable[..., Replica],
    min_replicas: int,
    wait_replicas: int,
) -> None:
    for server in setup.servers:
        ask(server, "CONFIG", "SET", "min-replicas-to-write", str(min_replicas))
    replica = start_replica(redis_url=setup.url, store_wait_replicas=wait_replicas)
    acknowledged, is_over = [], asyncio.Event()

    async def post_on() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            if (await post_webhook(client, replica, full_report(f"sent-{number}"))).status_code == 200:
                acknowledged.append((f"sent-{number}", time.monotonic()))
            await asyncio.sleep(0.02)

    posting = asyncio.create_task(post_on())
    old, _ = await asyncio.to_thread(lose_master)
    promoted_at = time.monotonic()

    async def is_served() -> bool:
        return any(at > promoted_at for _, at in acknowledged)

    await eventually(is_served)
    is_over.set()
    await posting
    await asyncio.to_thread(setup.rejoin, old)
    await asyncio.to_thread(setup.wait_until_whole)
    await until_readable(client, replica, [name for name, _ in acknowledged])


async def test_sentinels_that_are_silent_move_nobody(
    client: httpx2.AsyncClient, setup: SentinelSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=setup.url)
    master = setup.master()
    await post_until_taken(client, replica, full_report("asked"))
    connected = connections_of_the_service(master)
    for sentinel in setup.sentinels:
        sentinel.pause()
    await asyncio.sleep(3)  # several questions that nobody answers
    await post_until_taken(client, replica, full_report("unasked"))
    assert connected & connections_of_the_service(master), "a late reply may have cost one, but not all"
    for sentinel in setup.sentinels:
        sentinel.resume()
