"""A killed master comes back, empty and calling itself master: nobody goes there whom the Sentinels do not send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx2
import pytest
import redis

from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup, ask, connections_of_the_service
from tests.support.replica import Replica
from tests.support.traffic import post_until_taken, until_readable
from tests.support.vapi_sender import full_report


@pytest.fixture
def setup() -> Iterator[SentinelSetup]:
    with ExitStack() as stack:
        setup = SentinelSetup(replicas=2)
        stack.callback(setup.stop)
        yield setup.start()


def calls_itself_master(server: RedisProcess) -> bool:
    return bool(ask(server, "ROLE")[0] == b"master")


async def test_an_empty_master_under_its_old_address_is_given_nothing(
    client: httpx2.AsyncClient, setup: SentinelSetup, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=setup.url)
    old = setup.master()
    old.kill()
    old.forget()
    await asyncio.to_thread(setup.wait_for_promotion, [old])
    await asyncio.to_thread(setup.allow_no_other_failover, [old])
    await post_until_taken(client, replica, full_report("healed"))
    await asyncio.to_thread(old.start)
    assert ask(old, "DBSIZE") == 0
    sent, visitors, turns_as_master = [], set(), 0
    with suppress(redis.ConnectionError):  # the Sentinels cut all connections when they make it a replica
        while calls_itself_master(old):  # for about eight seconds
            turns_as_master += 1
            sent.append(f"sent-{turns_as_master}")
            await post_until_taken(client, replica, full_report(sent[-1]))
            visitors |= connections_of_the_service(old)
            await asyncio.sleep(0.05)
    await asyncio.to_thread(setup.wait_until_whole)

    assert turns_as_master > 0
    assert visitors == set()
    await until_readable(client, replica, sent)
