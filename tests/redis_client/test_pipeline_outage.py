"""A Redis that hangs, dies, loads, is demoted or is full: a clear failure in time, and healing without help."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.errors import StoreUnavailableError
from service.load_config import load_settings
from service.redis_client.topology import open_redis
from service.redis_client.wrong_topology import IS_A_CLUSTER
from service.store.calls import CallStore
from service.store.keys import Keys
from tests.support.access_log import LONGEST_ANSWER_S
from tests.support.opened_store import AnswerWith, OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.store_events import change, stored, until_taken

TIMEOUT_S = 1.2


def _hasty(opened: OpenedStore) -> CallStore:
    """The same store as the service has it: it does not wait for Redis for long, as ``opened.store`` does."""
    return CallStore(opened.settings, opened.start_pipeline(timeout_s=TIMEOUT_S), opened.keys)


async def _heals(opened: OpenedStore, store: CallStore) -> None:
    await until_taken(store, change(status=3, ending=3))
    assert (await stored(opened.store)).status == 3


async def test_a_hung_redis_fails_every_request_in_time_and_heals_when_it_wakes(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    store = _hasty(opened)
    await until_taken(store, change(status=1))
    own_redis.pause()

    started = time.monotonic()
    answers = await asyncio.gather(
        *(store.merge(change(f"call-{number}")) for number in range(300)), return_exceptions=True
    )
    took_s = time.monotonic() - started

    assert {type(answer) for answer in answers} == {StoreUnavailableError}
    assert TIMEOUT_S * 0.9 < took_s < LONGEST_ANSWER_S
    own_redis.resume()
    await _heals(opened, store)


async def test_requests_that_come_one_after_the_other_to_a_hung_redis_each_fail_in_time(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    store = _hasty(opened)
    await until_taken(store, change(status=1))
    own_redis.pause()

    async def ask(number: int) -> float:
        await asyncio.sleep(number * 0.02)
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.find(b"call-%d" % number)
        return time.monotonic() - started

    took_s = await asyncio.gather(*(ask(number) for number in range(30)))
    own_redis.resume()

    assert max(took_s) < LONGEST_ANSWER_S
    await _heals(opened, store)


async def test_a_redis_that_was_killed_is_found_again_with_its_scripts_forgotten(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    store = _hasty(opened)
    await until_taken(store, change(status=1))
    own_redis.kill()

    with pytest.raises(StoreUnavailableError):
        await store.merge(change(status=2))

    own_redis.start()
    await _heals(opened, store)


async def test_a_request_survives_a_restart_shorter_than_its_patience(
    open_on: OpenStore, own_redis: RedisProcess
) -> None:
    opened = await open_on()
    store = CallStore(opened.settings, opened.start_pipeline(connections=1), opened.keys)
    await store.merge(change(status=1))
    own_redis.kill()
    waiting = asyncio.create_task(store.merge(change(status=2)))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(own_redis.start)

    assert (await waiting).is_changed


async def test_a_demoted_redis_refuses_writes_and_is_left_for_a_new_connection(open_on: OpenStore) -> None:
    opened = await open_on()
    store, pipeline = _hasty(opened), opened.start_pipeline(connections=1)
    connection = await pipeline.execute(b"CLIENT", b"ID")
    await opened.send("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(StoreUnavailableError):
        deadline = time.monotonic() + TIMEOUT_S
        await pipeline.execute(b"SET", opened.keys.call(b"call-1"), b"x", deadline=deadline)
    with pytest.raises(StoreUnavailableError):
        await store.merge(change(status=1))

    assert await pipeline.execute(b"CLIENT", b"ID") != connection
    await opened.send("REPLICAOF", "NO", "ONE")
    await _heals(opened, store)


async def test_a_full_redis_refuses_a_merge_and_keeps_the_record_as_it_was(open_on: OpenStore) -> None:
    opened = await open_on()
    store = _hasty(opened)
    await until_taken(store, change(status=1))
    await opened.store.merge(change(status=1, customer_phone='"+18645550123"'))
    before = await stored(opened.store)
    await opened.redis.config_set("maxmemory-policy", "noeviction")
    await opened.redis.config_set("maxmemory", "1mb")

    for event in (change(status=2, location='"here"'), change("call-2", status=1)):
        with pytest.raises(StoreUnavailableError):
            await store.merge(event)

    assert await stored(opened.store) == before
    assert await opened.store.find(b"call-2") is None
    await opened.redis.config_set("maxmemory", "0")
    await _heals(opened, store)


async def test_a_redis_that_loads_its_data_is_away_until_it_has(open_on: OpenStore, own_redis: RedisProcess) -> None:
    opened = await open_on()
    for number in range(700):
        await opened.redis.set(f"ballast-{number}", "x" * 2_000)
    await opened.redis.save()
    own_redis.kill()
    slow = RedisProcess(
        "--key-load-delay", "60000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no",
        port=own_redis.port, folder=own_redis._folder,
    )  # fmt: skip
    await asyncio.to_thread(slow.start)
    store = _hasty(opened)
    try:
        assert (await opened.redis.info("persistence"))["loading"] == 1  # for 40 s, or until it is told to hurry
        with pytest.raises(StoreUnavailableError):
            await store.merge(change(status=1))
        ask(slow, "CONFIG", "SET", "key-load-delay", "0")
        await _heals(opened, store)
    finally:
        slow.stop()


@pytest.mark.parametrize(
    "reply",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN RedisSocket with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "BUSY Redis is busy running a script.",
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "ERR max number of clients reached",
    ],
)
async def test_an_answer_that_speaks_of_the_server_is_an_outage_and_keeps_its_words(
    answer_with: AnswerWith, reply: str
) -> None:
    port = await answer_with(f"-{reply}\r\n".encode())
    settings = load_settings({"REDIS_URL": f"redis://127.0.0.1:{port}/0", "STORE_TIMEOUT_S": "0.4"})
    commands = open_redis(settings, Keys("vapi").probes).commands
    commands.start()
    try:
        with pytest.raises(StoreUnavailableError) as raised:
            await commands.execute(b"SET", b"key", b"value")
        assert raised.value.reason == (IS_A_CLUSTER if reply.startswith(("CLUSTERDOWN", "TRYAGAIN")) else reply)
    finally:
        await commands.close()
