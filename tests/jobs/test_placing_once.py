"""Nobody is phoned twice: idempotency keys, lost answers, requests that go away, Redis that goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from service.errors import ConflictError, KeyReusedError, ServiceError, StoreUnavailableError, UpstreamError
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.placing_service import A_REQUEST, Desk, a_request, opened_desk
from tests.support.redis_server import RedisProcess
from tests.support.slow_proxy import SlowProxy
from tests.support.store_events import record

GOING_REDIS: Final = {"STORE_TIMEOUT_S": "1.2"}
"""For a Redis that answers first and goes then. It is the longest time allowed: a busy machine may need most of it."""


@pytest.fixture
async def desk(vapi: FakeVapi) -> AsyncIterator[Desk]:
    async with opened_desk(**vapi.settings) as opened:
        yield opened


@pytest.fixture
def settings(vapi: FakeVapi, held: SlowProxy) -> dict[str, str]:
    """For a desk to which VAPI's answers come when the test lets them."""
    return {**vapi.settings, "VAPI_API_URL": f"http://127.0.0.1:{held.port}"}


async def has_asked(vapi: FakeVapi) -> None:
    async def is_asked() -> bool:
        return bool(vapi.requests)

    await eventually(is_asked)


async def test_the_same_request_with_the_same_key_gets_the_first_answer(vapi: FakeVapi, desk: Desk) -> None:
    placed = [await desk.placing.place(a_request(), key="key-1") for _ in range(3)]
    assert placed[0] == placed[1] == placed[2]
    assert len(vapi.requests) == 1
    assert desk.results == [("vapi", "placed"), ("vapi", "repeated"), ("vapi", "repeated")]


async def test_naming_the_method_that_is_used_anyway_makes_no_other_request(vapi: FakeVapi, desk: Desk) -> None:
    await desk.placing.place(a_request(), key="key-1")
    await desk.placing.place(a_request(), "vapi", key="key-1")
    assert len(vapi.requests) == 1


@pytest.mark.parametrize("fields", [{"providerPhone": "+18645550124"}, {"clientName": "Ann"}, {"urgency": "flexible"}])
async def test_another_request_with_the_same_key_is_refused(vapi: FakeVapi, desk: Desk, fields: dict[str, Any]) -> None:
    await desk.placing.place(a_request(), key="key-1")
    with pytest.raises(KeyReusedError):
        await desk.placing.place(a_request(**fields), key="key-1")
    assert len(vapi.requests) == 1


async def test_without_a_key_and_with_other_keys_each_request_is_a_call(vapi: FakeVapi, desk: Desk) -> None:
    for key in (None, None, "key-1", "key-2"):
        await desk.placing.place(a_request(), key=key)
    assert len(vapi.calls) == 4


async def test_of_many_at_once_with_one_key_one_phones(vapi: FakeVapi, desk: Desk) -> None:
    placing = (desk.placing.place(a_request(), key="key-1") for _ in range(20))
    outcomes = await asyncio.gather(*placing, return_exceptions=True)
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 19
    assert len(vapi.requests) == 1


@pytest.mark.parametrize("status", [400, 402, 429, 401, 503])
async def test_a_refusal_frees_the_key(vapi: FakeVapi, desk: Desk, status: int) -> None:
    vapi.refuse_next(status)
    with pytest.raises(ServiceError):
        await desk.placing.place(a_request(), key="key-1")
    placed = await desk.placing.place(a_request(location="Elsewhere"), key="key-1")
    assert placed.call_id in vapi.calls


async def test_a_vapi_that_cannot_be_reached_frees_the_key(vapi: FakeVapi, desk: Desk) -> None:
    vapi.go_away()
    with pytest.raises(UpstreamError):
        await desk.placing.place(a_request(), key="key-1")
    vapi.come_back()
    placed = await desk.placing.place(a_request(), key="key-1")
    assert list(vapi.calls) == [placed.call_id]


@pytest.mark.parametrize("trouble", ["break_next", "cut_next", "refuse_next"])
async def test_while_the_outcome_is_unknown_the_key_is_taken(vapi: FakeVapi, desk: Desk, trouble: str) -> None:
    getattr(vapi, trouble)(*([500] if trouble == "refuse_next" else []))
    with pytest.raises(UpstreamError):
        await desk.placing.place(a_request(), key="key-1")
    with pytest.raises(ConflictError):
        await desk.placing.place(a_request(), key="key-1")
    assert len(vapi.requests) == 1


async def go_away(vapi: FakeVapi, desk: Desk, held: SlowProxy) -> None:
    """Ask for a call, and go away before VAPI answers."""
    placing = asyncio.create_task(desk.placing.place(a_request(), key="key-1"))
    await has_asked(vapi)
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    assert desk.results == []
    held.may_reply.set()
    await eventually(lambda: bool(desk.results))


async def test_a_request_that_goes_away_is_finished_and_noted(
    vapi: FakeVapi, settings: dict[str, str], held: SlowProxy
) -> None:
    async with opened_desk(**settings) as desk:
        await go_away(vapi, desk, held)
        placed = await desk.placing.place(a_request(), key="key-1")
        assert (await record(desk.store, str(placed.call_id)))["status"] == "queued"
    assert len(vapi.requests) == 1


async def test_a_request_that_goes_away_before_it_is_refused_disturbs_nobody(
    vapi: FakeVapi, settings: dict[str, str], held: SlowProxy
) -> None:
    vapi.refuse_next(400)
    async with opened_desk(**settings) as desk:
        await go_away(vapi, desk, held)
        assert desk.results == [("vapi", "refused")]


async def test_closing_waits_for_what_is_under_way(vapi: FakeVapi, settings: dict[str, str], held: SlowProxy) -> None:
    async with opened_desk(**settings) as desk:
        placing = asyncio.create_task(desk.placing.place(a_request()))
        await has_asked(vapi)
        asyncio.get_running_loop().call_later(0.2, held.may_reply.set)  # it is being closed by then
    assert (await placing).call_id in vapi.calls


async def test_closing_does_not_wait_for_ever(vapi: FakeVapi) -> None:
    vapi.hang_next()
    async with opened_desk(**vapi.settings) as desk:
        placing = asyncio.create_task(desk.placing.place(a_request()))
        await has_asked(vapi)
    with pytest.raises(asyncio.CancelledError):
        await placing
    assert desk.results == [("vapi", "unknown")]


async def place_while_redis_goes(vapi: FakeVapi, held: SlowProxy, desk: Desk, redis: RedisProcess) -> str:
    """Redis dies, and forgets everything, between the claim and VAPI's answer; returns the id of the call."""
    placing = asyncio.create_task(desk.placing.place(a_request(), key="key-1"))
    await has_asked(vapi)
    redis.kill()
    held.may_reply.set()
    placed = await placing
    return str(placed.call_id)


async def test_a_redis_that_dies_while_it_rings_learns_of_the_call_when_it_is_back(
    vapi: FakeVapi, settings: dict[str, str], held: SlowProxy, own_redis: RedisProcess
) -> None:
    async with opened_desk(own_redis.url, **settings, **GOING_REDIS) as desk:
        call_id = await place_while_redis_goes(vapi, held, desk, own_redis)
        own_redis.start()

        async def is_known() -> bool:
            return await desk.store.find(call_id.encode()) is not None

        await eventually(is_known)

        async def is_answered() -> bool:
            return any(b":idempotency:" in key for key in await desk.keys_in_redis())

        await eventually(is_answered)
        assert (await desk.placing.place(a_request(), key="key-1")).call_id == call_id
        assert len(vapi.requests) == 1


async def test_a_redis_that_hangs_when_it_is_asked_blocks_the_key_no_longer_than_it_hangs(
    vapi: FakeVapi, own_redis: RedisProcess
) -> None:
    async with opened_desk(own_redis.url, **vapi.settings, **GOING_REDIS) as desk:
        await desk.store.scan()  # connected
        own_redis.pause()
        with pytest.raises(StoreUnavailableError):
            await desk.placing.place(a_request(), key="key-1")
        own_redis.resume()

        async def is_placed() -> bool:
            try:
                await desk.placing.place(a_request(), key="key-1")
            except (ConflictError, StoreUnavailableError):
                return False
            return True

        await eventually(is_placed)
    assert len(vapi.requests) == 1


async def test_with_a_spool_the_call_is_on_the_disk(
    vapi: FakeVapi, settings: dict[str, str], held: SlowProxy, own_redis: RedisProcess, tmp_path: Path
) -> None:
    async with opened_desk(own_redis.url, **settings, **GOING_REDIS, SPOOL_DIR=tmp_path) as desk:
        call_id = await place_while_redis_goes(vapi, held, desk, own_redis)
        assert desk.spool is not None
        assert desk.spool.held.waiting == 1
        own_redis.start()

        async def is_drained() -> bool:
            assert desk.spool is not None
            return await desk.spool.drain_some(desk.store.merge, lambda _: None) == 1

        await eventually(is_drained)
        assert (await record(desk.store, call_id))["provider_name"] == A_REQUEST["providerName"]


async def test_a_spool_without_room_is_no_reason_to_forget_the_call(
    vapi: FakeVapi, settings: dict[str, str], held: SlowProxy, own_redis: RedisProcess, tmp_path: Path
) -> None:
    spool = {"SPOOL_DIR": str(tmp_path), "SPOOL_MAX_BYTES": "1"}
    async with opened_desk(own_redis.url, **settings, **GOING_REDIS, **spool) as desk:
        call_id = await place_while_redis_goes(vapi, held, desk, own_redis)
        own_redis.start()

        async def is_known() -> bool:
            return await desk.store.find(call_id.encode()) is not None

        await eventually(is_known)
