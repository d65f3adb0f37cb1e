"""One replica with several worker processes: one address, one set of metrics, and no worker is irreplaceable."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.traffic import open_client, post_webhook, until_readable
from tests.support.vapi_sender import status_update

SPAWNED = b"from multiprocessing.spawn import spawn_main"


@pytest.fixture(scope="module")
def replica(redis_process: RedisProcess) -> Iterator[Replica]:
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="workers", workers=2).start()
    yield replica
    replica.stop()


def workers_of(replica: Replica) -> set[int]:
    children = Path(f"/proc/{replica.pid}/task/{replica.pid}/children").read_text().split()
    return {int(pid) for pid in children if SPAWNED in Path(f"/proc/{pid}/cmdline").read_bytes()}


async def webhooks_counted(client: httpx2.AsyncClient, replica: Replica) -> float:
    metrics = (await client.get(replica.url + "/metrics", headers={"Connection": "close"})).text
    return sum(float(value) for value in re.findall(r"^vapi_webhooks_total\{.*\} (.+)$", metrics, re.MULTILINE))


async def test_every_worker_shows_the_metrics_of_all(client: httpx2.AsyncClient, replica: Replica) -> None:
    before = await webhooks_counted(client, replica)
    for number in range(30):
        answer = await post_webhook(client, replica, status_update("ringing", f"worked-{number}"), Connection="close")
        assert answer.status_code == 200

    async def all_are_shown() -> bool:
        return await webhooks_counted(client, replica) == before + 30

    await eventually(all_are_shown)  # the other worker publishes ten times a second
    assert [await webhooks_counted(client, replica) for _ in range(12)] == [before + 30] * 12


async def test_as_many_workers_as_were_asked_for_are_started(replica: Replica) -> None:
    async def are_two_started() -> bool:
        return replica.log.count('"service.started"') >= 2

    await eventually(are_two_started)
    assert len(workers_of(replica)) == 2


async def test_a_killed_worker_is_replaced_and_nothing_it_acknowledged_is_missing(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    call_ids = [f"kept-{number}" for number in range(20)]
    acknowledged = [
        call_id
        for call_id in call_ids
        if (await post_webhook(client, replica, status_update("ringing", call_id), Connection="close")).status_code
        == 200
    ]
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
    workers = workers_of(replica)
    os.kill(replica.pid, number)
    assert replica.wait() == 0
    assert len(workers) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
