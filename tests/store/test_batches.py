"""A batch in Redis: one replica dials it, the others know how far it is, and a dead replica's calls get a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.errors import KeyReusedError, StoreUnavailableError
from service.store.batches import BatchClaim, BatchStanding, BatchStore, LeftBehind, create_batch_claim
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.redis_server import RedisProcess

DAY_MS = 24 * 3600 * 1000
LEFT = LeftBehind(b'{"left":1}', b'{"unknown":1}')
PLACED = b'{"success":true}'


@pytest.fixture
async def store(opened: OpenedStore) -> BatchStore:
    return BatchStore(opened.pipeline, opened.keys)


def a_claim(key: str | None = "key-1", request: bytes = b"request-1", total: int = 3) -> BatchClaim:
    return create_batch_claim(key, request, total)


async def lease_is_over(opened: OpenedStore, claim: BatchClaim) -> None:
    [key] = [key for key in await opened.keys_in_redis() if claim.batch_id.encode() in key]
    await opened.send("HSET", key.decode(), "leased_until", "1")


async def test_of_the_same_requests_one_begins_the_batch(store: BatchStore) -> None:
    assert [await store.begin(a_claim()), await store.begin(a_claim())] == [True, False]
    assert a_claim().batch_id == a_claim().batch_id != a_claim("key-2").batch_id


async def test_without_a_key_each_request_is_a_batch_of_its_own(store: BatchStore) -> None:
    assert [await store.begin(a_claim(None)), await store.begin(a_claim(None))] == [True, True]


async def test_another_request_with_the_same_key_is_refused(store: BatchStore) -> None:
    await store.begin(a_claim())
    with pytest.raises(KeyReusedError):
        await store.begin(a_claim(request=b"request-2"))


async def test_a_call_has_no_result_until_it_is_written(store: BatchStore) -> None:
    claim = a_claim()
    await store.begin(claim)
    assert await store.find(claim.batch_id, LEFT) == BatchStanding([None, None, None])
    assert await store.mark_dialling(claim, 1)
    assert await store.find(claim.batch_id, LEFT) == BatchStanding([None, None, None])
    assert await store.write(claim, {1: PLACED})
    standing = await store.find(claim.batch_id, LEFT)
    assert standing == BatchStanding([None, PLACED, None])
    assert (standing.done, standing.is_done) == (1, False)


async def test_a_batch_nobody_began_is_none(store: BatchStore) -> None:
    assert await store.find("0" * 32, LEFT) is None
    assert not await store.mark_dialling(a_claim(), 0)
    assert not await store.write(a_claim(), {0: PLACED})
    assert await store.find(a_claim().batch_id, LEFT) is None


async def test_when_its_replica_is_dead_every_call_gets_a_result(opened: OpenedStore, store: BatchStore) -> None:
    claim = a_claim()
    await store.begin(claim)
    await store.mark_dialling(claim, 0)
    await store.write(claim, {0: PLACED})
    await store.mark_dialling(claim, 1)
    await lease_is_over(opened, claim)
    for _ in range(2):
        assert await store.find(claim.batch_id, LEFT) == BatchStanding([PLACED, LEFT.unknown, LEFT.not_placed])


async def test_what_was_said_not_to_be_placed_is_not_dialled_any_more(opened: OpenedStore, store: BatchStore) -> None:
    """By a replica that was taken for dead. What it was dialling meanwhile is known better by it."""
    claim = a_claim()
    await store.begin(claim)
    await store.mark_dialling(claim, 0)
    await lease_is_over(opened, claim)
    await store.find(claim.batch_id, LEFT)
    assert [await store.mark_dialling(claim, index) for index in range(3)] == [False, False, False]
    await store.write(claim, {0: PLACED})
    assert await store.find(claim.batch_id, LEFT) == BatchStanding([PLACED, LEFT.not_placed, LEFT.not_placed])


async def test_a_sign_of_life_renews_the_lease(opened: OpenedStore, store: BatchStore) -> None:
    claim = a_claim()
    await store.begin(claim)
    await lease_is_over(opened, claim)
    assert await store.write(claim, {})
    assert await store.find(claim.batch_id, LEFT) == BatchStanding([None, None, None])
    assert await store.mark_dialling(claim, 2)


async def test_every_step_may_be_sent_again(store: BatchStore) -> None:
    claim = a_claim()
    assert [await store.begin(claim), await store.begin(claim)] == [True, True]
    assert [await store.mark_dialling(claim, 0), await store.mark_dialling(claim, 0)] == [True, True]
    assert [await store.write(claim, {0: PLACED}), await store.write(claim, {0: PLACED})] == [True, True]
    assert await store.find(claim.batch_id, LEFT) == BatchStanding([PLACED, None, None])


async def test_a_durable_step_that_is_sent_again_writes_again(own_redis: RedisProcess, open_on: OpenStore) -> None:
    """WAIT asks about the connection's own last write; what writes nothing would count as confirmed."""
    opened = await open_on()
    store, claim = BatchStore(opened.pipeline, opened.keys), a_claim()
    silent = []
    steps: dict[str, Callable[[], Awaitable[bool]]] = {
        "begin": lambda: store.begin(claim),
        "mark": lambda: store.mark_dialling(claim, 0),
        "write": lambda: store.write(claim, {0: PLACED}),
    }
    for name, step in steps.items():
        if 0 in [await changes_of(opened, step) for _ in range(2)]:
            silent.append(name)
    assert silent == []


async def changes_of(opened: OpenedStore, step: Callable[[], Awaitable[bool]]) -> int:
    """How many changes Redis counts, to be replicated and saved, for a step."""
    before = int((await opened.redis.info("persistence"))["rdb_changes_since_last_save"])
    assert await step()
    return int((await opened.redis.info("persistence"))["rdb_changes_since_last_save"]) - before


async def test_a_batch_whose_beginning_failed_can_be_begun_anew(store: BatchStore) -> None:
    claim = a_claim()
    await store.begin(claim)
    await store.free(a_claim())
    assert not await store.begin(a_claim()), "nobody frees the batch of another"
    await store.free(claim)
    assert await store.begin(a_claim())


async def test_a_batch_costs_one_key_of_redis_for_24_hours_from_its_beginning(
    opened: OpenedStore, store: BatchStore
) -> None:
    claim = a_claim()
    await store.begin(claim)
    [key] = await opened.keys_in_redis()
    assert DAY_MS - 10_000 < await opened.redis.pttl(key) <= DAY_MS
    await opened.redis.pexpire(key, 50_000)
    await store.mark_dialling(claim, 0)
    await store.write(claim, {0: PLACED})
    await store.find(claim.batch_id, LEFT)
    assert await opened.redis.pttl(key) <= 50_000


async def test_without_redis_nothing_begins(open_store: OpenStore) -> None:
    opened = await open_store(at="redis://127.0.0.1:1", STORE_TIMEOUT_S="0.2")
    store = BatchStore(opened.pipeline, opened.keys)
    for step in (store.begin(a_claim()), store.mark_dialling(a_claim(), 0), store.find("0" * 32, LEFT)):
        with pytest.raises(StoreUnavailableError):
            await step
