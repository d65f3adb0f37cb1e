"""The pipeline: every request gets its own reply, whoever gives up; what was begun is done; reads are shared rightly."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from redis.exceptions import ResponseError

from service.errors import StoreUnavailableError
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import change, stored

SECONDS_FOR_ALL = 120.0
UNDER_WAY = 5_000
"""At most: the last of more would wait longer than it may."""


async def test_replies_are_never_crossed_whoever_gives_up(opened: OpenedStore, redis_url: str) -> None:
    chance = random.Random(1)
    asked = 5_000 if redis_url.startswith("memory") else 100_000

    async def ask(number: int) -> bool:
        if number % 3:
            reply = await opened.pipeline.execute(b"ECHO", b"%d" % number)
        else:
            reply = await opened.pipeline.execute(b"ECHO", b"%d" % (number // 30), coalesce_key=number // 30)
            number //= 30
        return bool(reply == b"%d" % number)

    tasks: list[asyncio.Task[bool]] = []
    for number in range(asked):
        if number >= UNDER_WAY and not (oldest := tasks[number - UNDER_WAY]).done():
            await asyncio.wait([oldest])
        tasks.append(asyncio.create_task(ask(number)))
        if chance.random() < 0.4:
            chance.choice(tasks[-50:]).cancel()
        if chance.random() < 0.1:
            await asyncio.sleep(0)
    async with asyncio.timeout(SECONDS_FOR_ALL):
        answers = await asyncio.gather(*tasks, return_exceptions=True)

    cancelled = sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
    assert 0.1 * asked < cancelled < 0.5 * asked
    assert answers.count(True) == asked - cancelled
    assert await opened.pipeline.execute(b"ECHO", b"after") == b"after"


async def test_a_write_whose_request_gave_up_is_still_executed(opened: OpenedStore) -> None:
    key = opened.keys.call(b"call-1")

    async def write() -> None:
        await opened.pipeline.execute(b"SET", key, b"written")

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()

    async def is_written() -> bool:
        return bool(await opened.redis.get(key) == b"written")

    await eventually(is_written)
    assert task.cancelled()


async def test_a_merge_whose_request_gave_up_under_way_is_still_executed(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    own_redis.pause()
    task = asyncio.create_task(opened.store.merge(change(status=3)))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    own_redis.resume()

    async def is_merged() -> bool:
        return await opened.store.find(b"call-1") is not None

    await eventually(is_merged)
    assert (await stored(opened.store)).status == 3


async def test_a_read_not_yet_sent_is_shared(opened: OpenedStore) -> None:
    key = opened.keys.call(b"counter")

    replies = await asyncio.gather(*(opened.pipeline.execute(b"INCR", key, coalesce_key="one") for _ in range(10)))

    assert replies == [1] * 10


async def test_reads_of_different_things_are_not_shared(opened: OpenedStore) -> None:
    key = opened.keys.call(b"counter")

    replies = await asyncio.gather(*(opened.pipeline.execute(b"INCR", key, coalesce_key=number) for number in range(3)))

    assert sorted(replies) == [1, 2, 3]


async def test_who_gives_up_a_shared_read_takes_it_from_nobody_else(opened: OpenedStore) -> None:
    waiters = [opened.pipeline.execute(b"ECHO", b"x", coalesce_key="one") for _ in range(3)]
    waiters[0].cancel()

    assert await asyncio.gather(*waiters[1:]) == [b"x", b"x"]


async def test_a_read_under_way_is_not_shared(open_on: OpenStore, own_redis: RedisProcess) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    key = opened.keys.call(b"counter")
    await asyncio.gather(*(opened.pipeline.execute(b"PING") for _ in range(200)))  # every connection is connected
    own_redis.pause()
    first = opened.pipeline.execute(b"INCR", key, coalesce_key="one")
    for _ in range(20):
        await asyncio.sleep(0)
    second = opened.pipeline.execute(b"INCR", key, coalesce_key="one")
    own_redis.resume()

    assert sorted(await asyncio.gather(first, second)) == [1, 2]


async def test_an_error_reply_is_its_own_commands_alone(opened: OpenedStore) -> None:
    await opened.redis.set(opened.keys.call(b"text"), "x")

    replies: Any = await asyncio.gather(
        opened.pipeline.execute(b"ECHO", b"1"),
        opened.pipeline.execute(b"INCR", opened.keys.call(b"text")),
        opened.pipeline.execute(b"ECHO", b"2"),
        return_exceptions=True,
    )

    assert (replies[0], replies[2]) == (b"1", b"2")
    assert isinstance(replies[1], StoreUnavailableError)
    assert isinstance(replies[1].__cause__, ResponseError)


async def test_a_failure_that_nobody_waits_for_any_more_disturbs_nobody(opened: OpenedStore) -> None:
    await opened.redis.set(opened.keys.call(b"text"), "x")
    wrong = opened.pipeline.execute(b"INCR", opened.keys.call(b"text"))
    wrong.cancel()

    assert await opened.pipeline.execute(b"ECHO", b"1") == b"1"


async def test_an_unknown_script_without_its_source_is_an_error(opened: OpenedStore) -> None:
    with pytest.raises(StoreUnavailableError):
        await opened.pipeline.execute(b"EVALSHA", b"0" * 40, 0)


async def test_a_script_that_redis_forgot_is_sent_again(opened: OpenedStore) -> None:
    await opened.store.merge(change(status=1))
    await opened.redis.script_flush()

    merged = await asyncio.gather(*(opened.store.merge(change(status=status)) for status in (2, 3, 4)))

    assert any(one.is_changed for one in merged)
    assert (await stored(opened.store)).status == 4


async def test_closing_finishes_what_is_under_way_and_fails_what_is_queued(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on(STORE_TIMEOUT_S=1.2)
    pipeline = opened.start_pipeline(connections=1)
    await pipeline.execute(b"PING")
    own_redis.pause()
    under_way = pipeline.execute(b"ECHO", b"x")
    for _ in range(20):
        await asyncio.sleep(0)
    queued = pipeline.execute(b"ECHO", b"y")
    closing = asyncio.create_task(pipeline.close())
    await asyncio.sleep(0)
    own_redis.resume()
    await closing

    assert await under_way == b"x"
    with pytest.raises(StoreUnavailableError):
        await queued


async def test_what_redis_cannot_be_sent_is_refused_at_once(opened: OpenedStore) -> None:
    odd: Any = {"no": "argument"}

    with pytest.raises(TypeError):
        opened.pipeline.execute(b"SET", odd)
