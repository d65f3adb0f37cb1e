"""Whatever the order of subscribing, merging, deleting, claiming and crashing: each execution is resumed at least once,
without crashes exactly once, and never before its record is final.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.store.calls import CallStore
from service.store.keys import bucket_of
from service.store.subscriptions import SubscriptionStore, TryClaim
from tests.support.opened_store import OpenedStore
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, preliminary_report, status_update

PROPERTY: Final = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

MESSAGES: Final = {
    "ring": change_from(status_update("ringing")),
    "end": change_from(status_update("ended", endedReason="assistant-ended-call")),
    "preliminary": change_from(preliminary_report()),
    "report": change_from(full_report()),
    "report again": change_from(full_report(cost=9)),
}
ENDS: Final = frozenset(("report", "report again", "delete"))
"""The steps after which executions are to be resumed."""

EXECUTIONS: Final = (b"one", b"two", b"three")

SUBSCRIBE = st.sampled_from(EXECUTIONS)
CLAIM = st.tuples(st.integers(1, 3), st.sampled_from(("settles", "fails", "dies before", "dies after")))
STEPS = st.one_of(SUBSCRIBE, st.sampled_from((*MESSAGES, "delete")), CLAIM)

_numbers = itertools.count()


class World:
    """One call and its subscribers, over several processes' ways to Redis; whoever resumes is counted."""

    def __init__(self, opened: OpenedStore, ways: int) -> None:
        pipelines = [opened.pipeline, *(opened.start_pipeline(1) for _ in range(ways - 1))]
        self.stores = [CallStore(opened.settings, pipeline, opened.keys) for pipeline in pipelines]
        self.subscriptions = [
            # Of no length, so that every claim may be the one after a crash; or longer than any test.
            {
                lease_ms: SubscriptionStore(opened.settings, pipeline, opened.keys, lease_ms=lease_ms)
                for lease_ms in (0, 60_000)
            }
            for pipeline in pipelines
        ]
        self.begin()

    def begin(self) -> None:
        self.call_id = b"call-%d" % next(_numbers)
        self.resumed: Counter[bytes] = Counter()
        self.subscribed: set[bytes] = set()
        self.is_over = False

    def way(self) -> int:
        return random.randrange(len(self.stores))

    async def do(self, step: str | bytes | tuple[int, str], lease_ms: int = 0) -> None:
        if isinstance(step, bytes):
            await self.subscriptions[self.way()][0].subscribe(self.call_id, step)
            self.subscribed.add(step)
        elif isinstance(step, tuple):
            await self.work(*step, lease_ms)
        elif step == "delete":
            await self.stores[self.way()].delete(self.call_id)
        else:
            change = msgspec.structs.replace(MESSAGES[step], call_id=self.call_id)
            await self.stores[self.way()].merge(change)
        self.is_over = self.is_over or step in ENDS

    async def work(self, limit: int, manner: str, lease_ms: int) -> bool:
        """TryClaim, resume and settle, or die in between; True when there was something to do."""
        subscriptions = self.subscriptions[self.way()][lease_ms]
        claims = (await subscriptions.claim(bucket_of(self.call_id), limit)).claims
        await asyncio.gather(*(self._resume(subscriptions, claim, manner) for claim in claims))
        return bool(claims)

    async def _resume(self, subscriptions: SubscriptionStore, claim: TryClaim, manner: str) -> None:
        if manner == "dies before":
            return
        if manner == "fails":
            await subscriptions.end_claim(claim, "retried", retry_in_ms=0)
            return
        if claim.call_id == self.call_id:
            self.resumed[claim.subscriber] += 1
        if manner == "settles":
            await subscriptions.end_claim(claim, "resumed")

    async def finish(self) -> None:
        """Some process lives on."""
        async with asyncio.timeout(20):
            while await self.work(10, "settles", 0):
                pass


@pytest.fixture
async def world(opened: OpenedStore) -> World:
    return World(opened, ways=3)


@PROPERTY
@given(steps=st.lists(STEPS, max_size=14))
async def test_each_execution_is_resumed_at_least_once_whoever_dies(
    world: World, steps: list[str | bytes | tuple[int, str]]
) -> None:
    world.begin()
    for step in steps:
        if not world.is_over:
            assert not world.resumed, "nobody is resumed before the record is final"
        await world.do(step)
    await world.finish()

    assert set(world.resumed) == (world.subscribed if world.is_over else set())
    without_death = not any(isinstance(step, tuple) and step[1] == "dies after" for step in steps)
    if without_death:
        assert set(world.resumed.values()) <= {1}


@PROPERTY
@given(steps=st.lists(st.one_of(SUBSCRIBE, st.sampled_from((*MESSAGES, "delete"))), min_size=2, max_size=10))
async def test_each_execution_is_resumed_exactly_once_while_all_live(world: World, steps: list[str | bytes]) -> None:
    world.begin()
    await asyncio.gather(
        *(world.do(step) for step in (*steps, *steps)),
        *(world.do((2, "settles"), lease_ms=60_000) for _ in range(6)),
    )
    await world.finish()

    assert world.resumed == (dict.fromkeys(world.subscribed, 1) if world.is_over else {})
