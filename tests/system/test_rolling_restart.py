"""A rolling restart behind a real HAProxy: every request is answered, every acknowledged webhook is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.load_balancer import LoadBalancer
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import LATE_REDIS, ask_until_served, open_client, until_ready
from tests.support.vapi_sender import full_report

SECRET, TOKEN = "webhook-secret", "read-token"
TURN_S = 0.04
"""Each turn is a webhook and a poll: 50 requests a second."""

DRAIN_S = 4.0
"""Eight times what HAProxy needs to notice, for slow machines."""

PARKED = 10
RUN_UP_S = 1.0
"""How long the traffic flows before, between and after what is done to the replicas."""

Pair = tuple[Replica, Replica]


class Traffic:
    """Numbered webhooks, polls of what was acknowledged and long polls of what never comes, all through one address."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._name = f"rolling-{time.monotonic_ns()}"
        self._client = client
        self._url = url
        self.acknowledged: list[str] = []
        self.failed_webhooks: list[str] = []
        self.failed_polls: list[str] = []
        self.late: list[str] = []
        """What Redis was too late for; a restart may cause that, and a busy machine, too."""
        self.parked_answers = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Requests are sent at a steady rate, whatever becomes of those before; all are answered at the end."""
        async with asyncio.TaskGroup() as requests:
            turns = requests.create_task(self._send(requests))
            parked = [requests.create_task(self._park(f"never-{n}")) for n in range(PARKED)]
            await asyncio.sleep(RUN_UP_S)
            yield
            await asyncio.sleep(RUN_UP_S)
            for task in (turns, *parked):
                task.cancel()

    async def missing(self) -> list[str]:
        """Which acknowledged webhooks cannot be read."""
        answers = {one: await ask_until_served(partial(self._get, one)) for one in self.acknowledged}
        return [call_id for call_id, answer in answers.items() if answer.status_code != 200]

    async def _send(self, requests: asyncio.TaskGroup) -> None:
        for number in count():
            requests.create_task(self._post(f"{self._name}-{number}"))
            if self.acknowledged:
                requests.create_task(self._poll(self.acknowledged[-1]))
            await asyncio.sleep(TURN_S)

    async def _post(self, call_id: str) -> None:
        try:
            answer = await self._client.post(
                self._url + WEBHOOK, json=full_report(call_id), headers={"X-Vapi-Secret": SECRET}
            )
        except httpx2.HTTPError as exc:
            self.failed_webhooks.append(f"{call_id}: {exc!r}")
            return
        if answer.status_code == 200:
            self.acknowledged.append(call_id)
        else:
            self._note(answer, call_id, self.failed_webhooks)

    async def _poll(self, call_id: str) -> None:
        try:
            answer = await self._get(call_id)
        except httpx2.HTTPError as exc:
            self.failed_polls.append(f"{call_id}: {exc!r}")
            return
        if answer.status_code != 200:
            self._note(answer, call_id, self.failed_polls)

    async def _park(self, call_id: str) -> None:
        while True:
            try:
                answer = await self._get(call_id, wait="20")
            except httpx2.HTTPError as exc:
                self.failed_polls.append(f"{call_id}: {exc!r}")
                return
            if answer.status_code == 202:
                self.parked_answers += 1
            else:
                self._note(answer, call_id, self.failed_polls)
            await asyncio.sleep(TURN_S)

    def _note(self, answer: httpx2.Response, call_id: str, failed: list[str]) -> None:
        is_late = answer.status_code == 503 and LATE_REDIS in answer.text
        (self.late if is_late else failed).append(f"{call_id}: {answer.status_code} {answer.text}")

    async def _get(self, call_id: str, **query: str) -> httpx2.Response:
        return await self._client.get(
            self._url + CALLS + call_id, params=query, headers={"Authorization": f"Bearer {TOKEN}"}
        )


@pytest.fixture(scope="module")
def replicas(redis_process: RedisProcess) -> Iterator[Pair]:
    settings = {
        "redis_url": redis_process.url, "redis_key_prefix": "rolling", "drain_s": DRAIN_S,
        "vapi_webhook_secret": SECRET, "api_read_tokens": TOKEN,
    }  # fmt: skip
    pair = (Replica(**settings).start(), Replica(**settings).start())
    yield pair
    for replica in pair:
        replica.stop()


@pytest.fixture(scope="module")
def balancer(replicas: Pair) -> Iterator[LoadBalancer]:
    balancer = LoadBalancer(replicas[0].port, replicas[1].port).start()
    yield balancer
    balancer.stop()


async def restart(replica: Replica) -> int:
    """What an operator or an orchestrator does: stop it, start the next, go on when that one is ready."""
    replica.terminate()
    status = await asyncio.to_thread(replica.wait)
    await asyncio.to_thread(replica.start)
    async with open_client() as client:
        await until_ready(client, replica)
    return status


async def until_used(balancer: LoadBalancer, name: str, *, is_used: bool) -> None:
    async def is_so() -> bool:
        return balancer.is_using(name) == is_used

    await eventually(is_so)


def taken_by(replica: Replica) -> int:
    return replica.log.count('"route":"/api/v1/vapi/webhook"')


async def test_a_rolling_restart_fails_no_request_and_loses_no_webhook(
    client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer
) -> None:
    for _ in range(3):  # restarts; on a busy machine Redis may be late in some
        traffic = await restart_all(client, replicas, balancer)
        if not traffic.late:
            break
    assert traffic.late == []


async def restart_all(client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer) -> Traffic:
    taken_before = [taken_by(replica) for replica in replicas]
    repeated_before = len(balancer.repeated())
    traffic = Traffic(client, balancer.url)
    async with traffic.flowing():
        statuses = [await restart(replica) for replica in replicas]
    assert (traffic.failed_webhooks, traffic.failed_polls) == ([], []), balancer.log
    assert len(traffic.acknowledged) > 50
    assert traffic.parked_answers >= PARKED, "parked polls were answered and came again"
    assert await traffic.missing() == []
    assert balancer.repeated()[repeated_before:] == [], "the replicas' own doing, not the load balancer's second try"
    assert all(taken_by(replica) > before for replica, before in zip(replicas, taken_before, strict=True))
    assert statuses == [0, 0]
    return traffic


async def test_a_killed_replica_fails_no_webhook_and_loses_none(
    client: httpx2.AsyncClient, replicas: Pair, balancer: LoadBalancer
) -> None:
    traffic = Traffic(client, balancer.url)
    async with traffic.flowing():
        for name, replica in zip("ab", replicas, strict=True):
            await asyncio.to_thread(replica.kill)
            await until_used(balancer, name, is_used=False)
            await asyncio.to_thread(replica.start)
            await until_used(balancer, name, is_used=True)
    assert traffic.failed_webhooks == [], balancer.log
    assert await traffic.missing() == []
