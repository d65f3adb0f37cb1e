"""An execution is resumed although the replica that took the webhook dies, hangs on Kestra or leaves; and only once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import partial

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution, resumes_sent
from tests.support.routes import CALLS
from tests.support.traffic import ask_until_served, metric_at, post_until_taken
from tests.support.vapi_sender import full_report

Start = Callable[..., Replica]


@pytest.fixture
def kestra() -> Iterator[FakeKestra]:
    kestra = FakeKestra().start()
    yield kestra
    kestra.stop()


@pytest.fixture
def start(
    redis_process: RedisProcess, kestra: FakeKestra, start_replica: Start, request: pytest.FixtureRequest
) -> Start:
    """Starts a replica of this test's service."""
    prefix = f"resuming-{request.node.name[:40].replace('[', '-').rstrip(']')}"

    def start_one() -> Replica:
        return start_replica(redis_url=redis_process.url, redis_key_prefix=prefix, kestra_url=kestra.url)

    return start_one


async def subscribe(client: httpx2.AsyncClient, replica: Replica, call_id: str, execution_id: str) -> None:
    body = {"kind": "kestra_resume", "execution_id": execution_id}
    answer = await ask_until_served(partial(client.post, f"{replica.url}{CALLS}{call_id}/subscriptions", json=body))
    assert answer.status_code == 202, answer.text


async def take_report(client: httpx2.AsyncClient, replica: Replica, call_id: str) -> None:
    await post_until_taken(client, replica, full_report(call_id))


async def test_a_replica_that_is_killed_as_soon_as_it_took_the_reports_loses_nothing(
    client: httpx2.AsyncClient, start: Start, kestra: FakeKestra
) -> None:
    first, second = start(), start()
    executions = [paused_execution(kestra, f"execution{number}") for number in range(30)]
    for number, execution in enumerate(executions):
        await subscribe(client, second, f"call-{number}", execution.id)
    kestra.hang_next(method="POST", times=3)
    await asyncio.gather(*(take_report(client, first, f"call-{number}") for number in range(30)))

    async def is_resuming() -> bool:
        return resumes_sent(kestra) >= 3

    await eventually(is_resuming)
    first.kill()

    await asyncio.gather(*(execution.until_resumed() for execution in executions))
    assert {execution.resumes for execution in executions} == {1}


async def test_a_service_that_was_down_resumes_when_it_is_back(
    client: httpx2.AsyncClient, start: Start, kestra: FakeKestra
) -> None:
    only, execution = start(), paused_execution(kestra)
    await subscribe(client, only, "call-1", execution.id)
    kestra.answer_next(503, method="POST", times=2)
    await take_report(client, only, "call-1")

    async def has_tried() -> bool:
        return await metric_at(client, only, 'vapi_subscriptions_total{result="retried"}') > 0

    await eventually(has_tried)
    only.kill()

    start()
    await execution.until_resumed()
    assert execution.resumes == 1


async def test_a_replica_that_leaves_hands_over_what_it_cannot_finish(
    client: httpx2.AsyncClient, start: Start, kestra: FakeKestra
) -> None:
    first, second = start(), start()
    execution = paused_execution(kestra)
    await subscribe(client, second, "call-1", execution.id)
    kestra.hang_next(method="POST")
    await take_report(client, first, "call-1")
    first.terminate()
    assert first.wait() in (0, -15)

    await execution.until_resumed()
    assert execution.resumes == 1


async def test_two_replicas_resume_two_hundred_executions_once_each(
    client: httpx2.AsyncClient, start: Start, kestra: FakeKestra
) -> None:
    pair = (start(), start())
    executions = [paused_execution(kestra, f"execution{number}") for number in range(200)]

    # Fewer at once than would keep this client from sending a head within the ten seconds that a connection has for it.
    at_once = asyncio.Semaphore(40)

    async def live(number: int) -> None:
        """Subscribe and report in any order, each twice, anywhere."""
        call_id, execution_id = f"call-{number // 2}", executions[number].id
        steps = [subscribe(client, random.choice(pair), call_id, execution_id) for _ in range(2)]
        steps += [take_report(client, random.choice(pair), call_id) for _ in range(2)]
        random.shuffle(steps)
        async with at_once:
            for step in steps:
                await step

    await asyncio.gather(*map(live, range(200)))
    await asyncio.gather(*(execution.until_resumed() for execution in executions))
    assert {execution.resumes for execution in executions} == {1}
    assert resumes_sent(kestra) == 200
