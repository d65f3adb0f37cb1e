"""Idempotency keys: one request has a key, its answer is kept for a day, a refusal frees it."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import ConflictError, KeyReusedError, StoreUnavailableError
from service.store.idempotency import IdempotencyStore, KeyClaim, create_claim
from tests.support.opened_store import OpenedStore, OpenStore

DAY_MS = 24 * 3600 * 1000
ANSWER = b'{"call_id":"call-1"}'


@pytest.fixture
async def keys(opened: OpenedStore) -> IdempotencyStore:
    return IdempotencyStore(opened.pipeline, opened.keys)


def a_claim(key: str = "key-1", request: bytes = b"request-1") -> KeyClaim:
    return create_claim(key, request)


async def test_a_new_key_is_claimed(keys: IdempotencyStore) -> None:
    assert await keys.take(a_claim()) is None


async def test_while_the_first_runs_the_same_request_is_a_conflict(keys: IdempotencyStore) -> None:
    await keys.take(a_claim())
    with pytest.raises(ConflictError):
        await keys.take(a_claim())


async def test_the_same_request_gets_the_first_answer_as_often_as_it_asks(keys: IdempotencyStore) -> None:
    claim = a_claim()
    await keys.take(claim)
    await keys.keep(claim, ANSWER)
    assert [await keys.take(a_claim()), await keys.take(a_claim())] == [ANSWER, ANSWER]


@pytest.mark.parametrize("is_answered", [True, False])
async def test_another_request_with_the_same_key_is_refused(keys: IdempotencyStore, *, is_answered: bool) -> None:
    claim = a_claim()
    await keys.take(claim)
    if is_answered:
        await keys.keep(claim, ANSWER)
    with pytest.raises(KeyReusedError):
        await keys.take(a_claim(request=b"request-2"))


async def test_a_freed_key_may_be_claimed_by_any_request(keys: IdempotencyStore) -> None:
    claim = a_claim()
    await keys.take(claim)
    await keys.free(claim)
    assert await keys.take(a_claim(request=b"request-2")) is None


async def test_nobody_frees_the_key_of_another(keys: IdempotencyStore) -> None:
    await keys.take(a_claim())
    await keys.free(a_claim())
    with pytest.raises(ConflictError):
        await keys.take(a_claim())


async def test_an_answered_key_is_not_freed_any_more(keys: IdempotencyStore) -> None:
    claim = a_claim()
    await keys.take(claim)
    await keys.keep(claim, ANSWER)
    await keys.free(claim)
    assert await keys.take(a_claim()) == ANSWER


async def test_nobody_answers_for_another(keys: IdempotencyStore) -> None:
    first, second = a_claim(), a_claim()
    await keys.take(first)
    await keys.free(first)
    await keys.take(second)
    await keys.keep(first, ANSWER)
    with pytest.raises(ConflictError):
        await keys.take(a_claim())


async def test_an_answer_outlives_the_loss_of_its_claim(opened: OpenedStore, keys: IdempotencyStore) -> None:
    claim = a_claim()
    await keys.take(claim)
    await opened.redis.delete(*[key.decode() for key in await opened.keys_in_redis()])
    await keys.keep(claim, ANSWER)
    assert await keys.take(a_claim()) == ANSWER
    [key] = await opened.keys_in_redis()
    assert 0 < await opened.redis.pttl(key) <= DAY_MS


async def test_every_step_may_be_sent_again(keys: IdempotencyStore) -> None:
    refused, claim = a_claim("key-2"), a_claim()
    assert [await keys.take(claim), await keys.take(claim)] == [None, None]
    for _ in range(2):
        await keys.keep(claim, ANSWER)
    await keys.take(refused)
    for _ in range(2):
        await keys.free(refused)
    assert [await keys.take(a_claim()), await keys.take(a_claim("key-2"))] == [ANSWER, None]


async def test_of_many_at_once_one_claims_the_key(keys: IdempotencyStore) -> None:
    outcomes = await asyncio.gather(*(keys.take(a_claim()) for _ in range(30)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 29


async def test_keys_do_not_mix(keys: IdempotencyStore) -> None:
    names = ["a", "A", "a:0", "a:1", "{a}", "~!", "x" * 255]
    assert [await keys.take(a_claim(name)) for name in names] == [None] * len(names)


async def test_a_key_costs_one_key_of_redis_for_24_hours_from_its_claim(
    opened: OpenedStore, keys: IdempotencyStore
) -> None:
    claim = a_claim("a{b}c:" + "k" * 200)
    await keys.take(claim)
    [key] = await opened.keys_in_redis()
    assert DAY_MS - 10_000 < await opened.redis.pttl(key) <= DAY_MS
    await opened.redis.pexpire(key, 50_000)
    await keys.keep(claim, ANSWER)
    await keys.take(claim)
    assert await opened.redis.pttl(key) <= 50_000


async def test_a_request_without_a_key_only_asks_whether_redis_takes_writes(
    opened: OpenedStore, keys: IdempotencyStore
) -> None:
    await keys.verify_writable()
    [key] = await opened.keys_in_redis()
    assert 0 < await opened.redis.pttl(key) <= 10_000


async def test_without_redis_nothing_is_claimed_or_said_to_be_writable(open_store: OpenStore) -> None:
    opened = await open_store(at="redis://127.0.0.1:1", STORE_TIMEOUT_S="0.2")
    keys = IdempotencyStore(opened.pipeline, opened.keys)
    with pytest.raises(StoreUnavailableError):
        await keys.take(a_claim())
    with pytest.raises(StoreUnavailableError):
        await keys.verify_writable()
