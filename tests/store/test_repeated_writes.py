"""A durable command that is sent again, because its connection broke before the reply, writes again.

From Redis 7.2 on, WAIT asks only whether replicas have what this very connection wrote last. A command that finds its
work done, and writes nothing, would be confirmed by replicas that never heard of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import pytest

from service.errors import ConflictError, KeyReusedError
from service.redis_client.command import Commands
from service.store.calls import CallStore
from service.store.health import CommandsToMasters, StoreHealth
from service.store.idempotency import IdempotencyStore, KeyClaim
from service.store.subscriptions import SubscriptionStore
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SYNC_AT_ONCE, SentinelSetup, wait_until
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

Step = tuple[str, Callable[[], Awaitable[object]]]

NO_PINGS: Final = ("--repl-ping-replica-period", "3600")
"""They would move the replication offset as a write does."""


class SentTwice:
    """Sends each durable command twice, as a connection whose connection broke does, and notes whether the second one wrote."""

    def __init__(self, opened: OpenedStore) -> None:
        self._opened = opened
        self.has_written: list[bool] = []
        self.topology_problem: str | None = None

    async def execute(self, *args: Any, is_durable: bool = False, **options: Any) -> Any:
        reply = await self._opened.pipeline.execute(*args, **options)
        if not is_durable:
            return reply
        before = await self._offset()
        reply = await self._opened.pipeline.execute(*args, **options)
        self.has_written.append(await self._offset() > before)
        return reply

    async def find_masters(self) -> dict[str, int]:
        return await self._opened.pipeline.find_masters()

    async def _offset(self) -> int:
        return int((await self._opened.redis.info("replication"))["master_repl_offset"])


@pytest.fixture
async def opened() -> AsyncIterator[OpenedStore]:
    """On a master with a replica: a server without one has no replication offset."""
    master = RedisProcess(*SYNC_AT_ONCE, *NO_PINGS).start()
    replica = RedisProcess("--replicaof", f"127.0.0.1 {master.port}").start()
    wait_until(lambda: SentinelSetup._synced_replicas_of(master) == 1, "the replica did not join")
    opened = OpenedStore(master.url, {"REPORT_GRACE_S": "1"})
    yield opened
    await opened.close()
    replica.stop()
    master.stop()


@pytest.fixture
def sent_twice(opened: OpenedStore) -> SentTwice:
    return SentTwice(opened)


def webhooks(opened: OpenedStore, sent_twice: SentTwice) -> list[Step]:
    store = CallStore(opened.settings, sent_twice, opened.keys)

    async def end_grace() -> None:
        async def is_over() -> bool:
            sent_twice.has_written.clear()
            return (await store.expire_grace(b"call-1")).is_changed

        await eventually(is_over, 30)

    return [
        ("a first webhook", lambda: store.merge(change_from(status_update("ringing")))),
        ("a duplicate", lambda: store.merge(change_from(status_update("ringing")))),
        ("the end of the call", lambda: store.merge(change_from(status_update("ended")))),
        ("the end of its grace", end_grace),
        ("a report", lambda: store.merge(change_from(full_report()))),
        ("the report again", lambda: store.merge(change_from(full_report()))),
        ("a deletion", lambda: store.delete(b"call-1")),
        ("a second deletion", lambda: store.delete(b"call-1")),
        ("the deletion of a call nobody knows", lambda: store.delete(b"call-2")),
        ("a webhook of a deleted call", lambda: store.merge(change_from(full_report()))),
    ]


def placed_calls(opened: OpenedStore, commands: CommandsToMasters) -> list[Step]:
    store = IdempotencyStore(commands, opened.keys)
    ours, late = KeyClaim(b"key", b"request", b"1"), KeyClaim(b"key", b"request", b"2")
    other, refused = KeyClaim(b"key", b"other request", b"3"), KeyClaim(b"refused", b"request", b"4")
    return [
        ("a claim", lambda: store.take(ours)),
        ("a claim while the first one runs", lambda: store.take(late)),
        ("an answer", lambda: store.keep(ours, b"answer")),
        ("a claim that is answered", lambda: store.take(late)),
        ("a claim for another request", lambda: store.take(other)),
        ("a claim that will be refused", lambda: store.take(refused)),
        ("a key that is freed", lambda: store.free(refused)),
        ("a key that is freed again", lambda: store.free(refused)),
        ("a look whether Redis takes writes", store.verify_writable),
        ("a probe", StoreHealth(commands, opened.keys).probe),
    ]


def subscriptions(opened: OpenedStore, commands: Commands) -> list[Step]:
    calls = CallStore(opened.settings, opened.pipeline, opened.keys)
    plain = SubscriptionStore(opened.settings, opened.pipeline, opened.keys)
    store = SubscriptionStore(opened.settings, commands, opened.keys)

    async def resume() -> None:
        for bucket in range(32):
            for claim in (await plain.claim(bucket, 10)).claims:
                await plain.end_claim(claim, "resumed")

    return [
        ("a subscription of a call nobody knows", lambda: store.subscribe(b"call-1", b"one")),
        ("the same again", lambda: store.subscribe(b"call-1", b"one")),
        ("", lambda: calls.merge(change_from(full_report()))),
        ("one that is due", lambda: store.subscribe(b"call-1", b"one")),
        ("one of a final call", lambda: store.subscribe(b"call-1", b"two")),
        ("", resume),
        ("one that was resumed", lambda: store.subscribe(b"call-1", b"two")),
        ("", lambda: calls.delete(b"call-1")),
        ("one of a deleted call", lambda: store.subscribe(b"call-1", b"three")),
    ]


@pytest.mark.parametrize("steps_of", [webhooks, placed_calls, subscriptions])
async def test_every_durable_command_that_is_sent_again_writes_again(
    opened: OpenedStore, sent_twice: SentTwice, steps_of: Callable[[OpenedStore, SentTwice], list[Step]]
) -> None:
    silent = []
    for name, step in steps_of(opened, sent_twice):
        sent_twice.has_written.clear()
        with suppress(ConflictError, KeyReusedError):
            await step()
        if not all(sent_twice.has_written):
            silent.append(name)

    assert not silent, "these wrote nothing when they were sent again"


async def test_what_is_freed_again_leaves_the_key_to_whoever_comes_next(
    opened: OpenedStore, sent_twice: SentTwice
) -> None:
    store = IdempotencyStore(sent_twice, opened.keys)
    first, second = KeyClaim(b"key", b"request", b"1"), KeyClaim(b"key", b"request", b"2")
    await store.take(first)
    await store.free(first)
    assert await store.take(second) is None
    await store.free(first)

    with pytest.raises(ConflictError):
        await store.take(first)
