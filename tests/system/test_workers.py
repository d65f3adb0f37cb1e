"""One replica with several worker processes: one address, one set of metrics, and no worker is irreplaceable."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.eventually import eventually, eventually_sync
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.spool_site import workers_of
from tests.support.traffic import open_client, post_until_taken, until_readable, webhooks_counted
from tests.support.vapi_sender import status_update


@pytest.fixture(scope="module")
def replica(redis_process: RedisProcess) -> Iterator[Replica]:
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="workers", workers=2).start()
    yield replica
    replica.stop()


async def test_every_worker_shows_the_metrics_of_all(client: httpx2.AsyncClient, replica: Replica) -> None:
    before = await webhooks_counted(client, replica, "stored")
    for number in range(30):
        await post_until_taken(client, replica, status_update("ringing", f"worked-{number}"), Connection="close")

    async def all_are_shown() -> bool:
        """By whichever worker; the other one publishes ten times a second."""
        seen = {await webhooks_counted(client, replica, "stored") for _ in range(12)}
        return seen == {before + 30}

    await eventually(all_are_shown)


async def test_as_many_workers_as_were_asked_for_are_started(replica: Replica) -> None:
    async def are_two_started() -> bool:
        return replica.log.count('"service.started"') >= 2

    await eventually(are_two_started)
    assert len(workers_of(replica)) == 2


async def test_a_killed_worker_is_replaced_and_nothing_it_acknowledged_is_missing(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    acknowledged = [f"kept-{number}" for number in range(20)]
    for call_id in acknowledged:
        await post_until_taken(client, replica, status_update("ringing", call_id), Connection="close")
    counted = await webhooks_counted(client, replica)
    victim = min(workers_of(replica))
    os.kill(victim, signal.SIGKILL)

    async def is_replaced() -> bool:
        return len(workers_of(replica) - {victim}) == 2

    await eventually(is_replaced)
    async with open_client() as others:
        await until_readable(others, replica, acknowledged)
        assert await webhooks_counted(others, replica) >= counted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_replica_that_is_told_to_stop_takes_its_workers_with_it(
    redis_process: RedisProcess, number: signal.Signals
) -> None:
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="workers", workers=2).start()
    eventually_sync(lambda: len(workers_of(replica)) == 2)
    workers = workers_of(replica)
    os.kill(replica.pid, number)
    assert replica.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
