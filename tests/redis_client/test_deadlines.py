"""A command has its deadline from its request's arrival: in the queue, under way, shared, and while our loop is blocked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from service.errors import StoreUnavailableError
from service.redis_client.command import Command
from service.redis_client.command_queue import MAX_QUEUED_BYTES, CommandQueue
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.slow_proxy import SlowProxy

SOON_S = 0.1
BATCH = 16
"""Commands that one connection takes at a time while few wait."""


@pytest.fixture
async def proxy(own_redis: RedisProcess) -> AsyncIterator[SlowProxy]:
    async with SlowProxy(own_redis.port) as proxy:
        yield proxy


@pytest.fixture
async def slow(proxy: SlowProxy) -> AsyncIterator[OpenedStore]:
    """A store that reaches Redis through the proxy, every connection connected."""
    opened = OpenedStore(proxy.url, {})
    await asyncio.gather(*(opened.pipeline.execute(b"PING") for _ in range(200)))
    yield opened
    await opened.close()


def soon() -> float:
    return time.monotonic() + SOON_S


async def refused(waiting: asyncio.Future[object]) -> bool:
    async with asyncio.timeout(PATIENCE_S):
        try:
            await waiting
        except StoreUnavailableError:
            return True
        return False


async def test_a_command_that_was_not_written_by_its_deadline_never_is(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    pipeline = opened.start_pipeline(connections=1)
    await pipeline.execute(b"PING")
    key = opened.keys.call(b"late")
    own_redis.pause()
    before = [pipeline.execute(b"PING") for _ in range(BATCH)]
    await asyncio.sleep(0)
    late = pipeline.execute(b"SET", key, b"written", deadline=soon())

    assert await refused(late)
    assert not any(waiting.done() for waiting in before)
    own_redis.resume()
    await asyncio.gather(*before, return_exceptions=True)
    await pipeline.execute(b"PING")
    assert await opened.redis.get(key) is None


async def test_a_command_that_was_written_and_not_answered_by_its_deadline_is_refused_and_crosses_no_reply(
    slow: OpenedStore, proxy: SlowProxy
) -> None:
    pipeline = slow.start_pipeline(connections=1)
    await pipeline.execute(b"PING")
    for number in range(5):
        proxy.may_reply.clear()
        late = pipeline.execute(b"ECHO", b"late", deadline=soon())
        patient = pipeline.execute(b"ECHO", b"patient-%d" % number)
        assert await refused(late)
        proxy.may_reply.set()
        next_one = pipeline.execute(b"ECHO", b"next-%d" % number)
        assert await patient == b"patient-%d" % number
        assert await next_one == b"next-%d" % number


async def test_a_write_that_was_refused_under_way_may_still_happen(
    slow: OpenedStore, proxy: SlowProxy, own_redis: RedisProcess
) -> None:
    key = slow.keys.call(b"late")
    proxy.may_reply.clear()

    async def is_refused_and_written() -> bool:
        assert await refused(slow.pipeline.execute(b"SET", key, b"written", deadline=soon()))
        return own_redis.client.get(key) == b"written"

    await eventually(is_refused_and_written)
    proxy.may_reply.set()


async def test_who_joins_a_shared_read_keeps_a_deadline_of_his_own(open_on: OpenStore, own_redis: RedisProcess) -> None:
    opened = await open_on()
    pipeline = opened.start_pipeline(connections=1)
    await pipeline.execute(b"PING")
    own_redis.pause()
    before = [pipeline.execute(b"PING", deadline=time.monotonic() + PATIENCE_S) for _ in range(BATCH)]
    await asyncio.sleep(0)
    patient = time.monotonic() + PATIENCE_S
    first = pipeline.execute(b"ECHO", b"x", coalesce_key="one", deadline=soon())
    second = pipeline.execute(b"ECHO", b"x", coalesce_key="one", deadline=patient)
    third = pipeline.execute(b"ECHO", b"x", coalesce_key="one", deadline=soon())

    assert await refused(first)
    assert await refused(third)
    assert not second.done()
    own_redis.resume()
    assert await second == b"x"
    await asyncio.gather(*before)


async def test_a_shared_read_that_was_dropped_is_joined_by_nobody(open_on: OpenStore, own_redis: RedisProcess) -> None:
    opened = await open_on()
    pipeline = opened.start_pipeline(connections=1)
    await pipeline.execute(b"PING")
    own_redis.pause()
    before = [pipeline.execute(b"PING", deadline=time.monotonic() + PATIENCE_S) for _ in range(BATCH)]
    await asyncio.sleep(0)
    assert await refused(pipeline.execute(b"ECHO", b"x", coalesce_key="one", deadline=soon()))
    later = pipeline.execute(b"ECHO", b"x", coalesce_key="one", deadline=time.monotonic() + PATIENCE_S)
    own_redis.resume()

    async with asyncio.timeout(PATIENCE_S):
        assert await later == b"x"
        await asyncio.gather(*before)


async def test_what_finds_the_queue_full_is_refused_at_once_and_later_ones_find_room(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1)
    own_redis.pause()
    piece = b"x" * (1 << 20)
    key = opened.keys.call(b"large")
    waiting = [opened.pipeline.execute(b"SET", key, piece) for _ in range(2 * MAX_QUEUED_BYTES // len(piece))]

    at_once = [one for one in waiting if one.done()]
    assert 0.4 * len(waiting) < len(at_once) < 0.6 * len(waiting)
    assert all([await refused(one) for one in waiting])
    own_redis.resume()
    async with asyncio.timeout(PATIENCE_S):
        assert await opened.pipeline.execute(b"ECHO", b"after", deadline=time.monotonic() + PATIENCE_S) == b"after"


async def test_a_loop_that_does_not_keep_up_delays_a_failure_by_three_seconds_at_most() -> None:
    waiter = asyncio.get_running_loop().create_future()
    command = Command((b"PING",), None, None, waiter, 10.0, 1.0, is_durable=False, needs_asking=False)

    for now, is_over in ((9.0, False), (10.5, False), (12.9, False), (13.1, True)):
        command.fail_late(now, 0.5, TimeoutError())
        assert waiter.done() is is_over, now
    assert isinstance(waiter.exception(), StoreUnavailableError)


async def test_an_empty_queue_takes_a_command_of_any_size() -> None:
    queue = CommandQueue(connections=1)
    waiter = asyncio.get_running_loop().create_future()
    large, small = (
        Command((b"ECHO", text), None, None, waiter, 0.0, 0.0, is_durable=False, needs_asking=False)
        for text in (b"x" * (MAX_QUEUED_BYTES + 1), b"x")
    )

    assert queue.put(large)
    assert not queue.put(small)
    assert queue.take(BATCH) == [large]
    assert queue.put(small)


async def test_a_loop_that_was_blocked_holds_no_redis_for_slow(open_on: OpenStore) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    await opened.pipeline.execute(b"PING")
    queued = [opened.pipeline.execute(b"ECHO", b"%d" % number) for number in range(500)]
    time.sleep(1.3)  # noqa: ASYNC251 - the loop is to be blocked
    under_way = asyncio.gather(*queued)
    for _ in range(3):
        await asyncio.sleep(0)
        time.sleep(0.45)  # noqa: ASYNC251

    async with asyncio.timeout(PATIENCE_S):
        assert await under_way == [b"%d" % number for number in range(500)]


async def test_a_slow_link_carries_more_than_a_batch_a_round(slow: OpenedStore, proxy: SlowProxy) -> None:
    proxy.commands_s = proxy.replies_s = 0.12

    answers = await asyncio.gather(*(slow.pipeline.execute(b"ECHO", b"%d" % number) for number in range(400)))

    assert answers == [b"%d" % number for number in range(400)]


async def test_a_request_that_has_waited_long_enough_is_refused_at_once(opened: OpenedStore) -> None:
    with pytest.raises(StoreUnavailableError):
        await opened.pipeline.execute(b"PING", deadline=time.monotonic())
