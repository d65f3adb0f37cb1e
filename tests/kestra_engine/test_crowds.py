"""Many executions that wait at once, and replicas that go away under them, on Kestra's own engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.kestra_engine.engine import WORKER_THREADS
from tests.kestra_engine.house import House
from tests.support.load_balancer import LoadBalancer
from tests.support.vapi_sender import full_report

CROWD = 50
"""Three times the worker threads."""

WAYS = ("wait_loop", "wait_long_poll", "wait_events", "wait_pause_resume")


@pytest.fixture
def balancer(house: House) -> Iterator[LoadBalancer]:
    """The flows reach the replicas through it from now on."""
    balancer = LoadBalancer(house.a.port, house.b.port).start()
    house.service_url = balancer.url
    yield balancer
    balancer.stop()


@pytest.mark.parametrize("flow", WAYS)
async def test_more_calls_are_waited_for_than_there_are_worker_threads(house: House, flow: str) -> None:
    assert CROWD > 3 * WORKER_THREADS
    ids = [house.add_call() for _ in range(CROWD)]
    executions = [await house.start(flow, call_id=call_id) for call_id in ids]
    await asyncio.sleep(10)
    await asyncio.gather(*map(house.run_call, ids))
    states = await asyncio.gather(*(house.end(execution, within_s=180) for execution in executions))
    assert states == ["SUCCESS"] * CROWD
    records = [(await house.outputs(execution))["call_result"] for execution in executions]
    assert [record["call_id"] for record in records] == ids


@pytest.mark.parametrize("flow", WAYS)
async def test_a_replica_that_is_killed_meanwhile_is_not_missed(
    house: House, balancer: LoadBalancer, flow: str
) -> None:
    """The subscription is with Redis: the other replica resumes."""
    call_id = house.add_call()
    execution = await house.start(flow, call_id=call_id)
    await asyncio.sleep(5)
    house.a.kill()
    await house.send(full_report(call_id), to=house.b)
    assert await house.end(execution, within_s=90) == "SUCCESS"
    assert (await house.outputs(execution))["call_result"]["call_id"] == call_id
