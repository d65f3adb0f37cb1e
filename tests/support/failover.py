"""Probes that go on while a master is lost: what was answered when, and which calls that master had."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from redis.crc import key_slot

from service.store.keys import Keys
from tests.support.cluster_setup import ClusterSetup
from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup, ask
from tests.support.replica import Replica
from tests.support.traffic import get_call, post_until_taken, until_parked
from tests.support.vapi_sender import full_report

Setup = SentinelSetup | ClusterSetup

PROBE_EVERY_S = 0.05

SOONER_THAN_A_SWEEP_S = 0.5
"""Lost notifications are looked for every 1.5 s: six polls in a row that are answered sooner were notified. On a busy
machine it takes several looks to see that: only ``eventually`` makes it a promise."""


@dataclass(frozen=True)
class Answered:
    """One probe; times are of the monotonic clock."""

    number: int
    status: int
    began_at: float
    ended_at: float


class Prober:
    """Asks again and again, without waiting for the answers, from the beginning of the block to its end."""

    def __init__(self, probe: Callable[[int], Awaitable[httpx2.Response]], every_s: float = PROBE_EVERY_S) -> None:
        self.answers: list[Answered] = []
        self._every_s = every_s
        self._ask = probe
        self._task: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._is_over.set()
        await self._task

    async def until_success(self, moment: float) -> None:
        """Return once a success came after that moment."""
        await eventually(lambda: any(one.status == 200 and one.ended_at > moment for one in self.answers))

    async def until_successes(self, count: int) -> None:
        """Return once so many in a row that begin from now on succeeded."""
        now = time.monotonic()

        def latest() -> list[int]:
            return [one.status for one in sorted(self.since(now), key=lambda one: one.number)[-count:]]

        await eventually(lambda: latest() == [200] * count)

    def since(self, moment: float) -> list[Answered]:
        return [answer for answer in self.answers if answer.began_at > moment]

    async def _probe(self) -> None:
        async with asyncio.TaskGroup() as probes:
            for number in itertools.count():
                if self._is_over.is_set():
                    return
                probes.create_task(self._once(number))
                await asyncio.sleep(self._every_s)

    async def _once(self, number: int) -> None:
        began_at = time.monotonic()
        status = (await self._ask(number)).status_code
        self.answers.append(Answered(number, status, began_at, time.monotonic()))


def call_ids_at(setup: Setup, master: RedisProcess, prefix: str) -> Iterator[str]:
    """Ids of calls, without end, whose records that master has."""
    slots = None if isinstance(setup, SentinelSetup) else slots_of(master)
    keys = Keys("vapi")
    for number in itertools.count():
        call_id = f"{prefix}-{number}"
        if slots is None or key_slot(keys.call(call_id.encode())) in slots:
            yield call_id


def slots_of(node: RedisProcess) -> set[int]:
    """The slots of a Cluster's node, by its own account."""
    ranges: Any = ask(node, "CLUSTER", "SLOTS")
    return {slot for first, last, master, *_ in ranges if master[1] == node.port for slot in range(first, last + 1)}


async def poll_until_over(client: httpx2.AsyncClient, replica: Replica, call_id: str) -> httpx2.Response:
    """Poll as Kestra does: again when a poll's own time was over, which a slow failover may take."""
    while True:
        asked_at = time.monotonic()
        answer = await get_call(client, replica, call_id, wait="20")
        if time.monotonic() - asked_at < 20:
            return answer


async def wakes_at_once(client: httpx2.AsyncClient, post_to: Replica, poll_at: Replica, prefix: str) -> bool:
    """Whether six polls, one after the other, are each answered sooner than without a notification."""
    for number in range(6):
        call_id = f"{prefix}-{time.monotonic_ns()}-{number}"
        poll = asyncio.create_task(get_call(client, poll_at, call_id, wait="20"))
        await until_parked(client, poll_at, 1)
        await post_until_taken(client, post_to, full_report(call_id))
        posted_at = time.monotonic()
        answer = await poll
        if answer.status_code != 200 or time.monotonic() - posted_at > SOONER_THAN_A_SWEEP_S:
            return False
    return True
