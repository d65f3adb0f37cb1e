"""Batches in one process: every call gets a result, whatever becomes of Redis, of the process and of its callers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.errors import UnavailableError
from service.jobs.batches import LEFT_BEHIND, STOPPED, Batches, Place
from service.store.batches import BatchClaim, BatchStore, create_batch_claim
from tests.support.opened_store import OpenedStore

PLACED = b'{"success":true,"data":{}}'
LONG_S = 30.0


class Dialled:
    """Stands for what places calls: notes whom it was told to dial, and answers when it is let."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.may_answer = asyncio.Event()
        self.begun = asyncio.Event()

    async def place(self, index: int) -> bytes:
        self.indices.append(index)
        self.begun.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            return b'{"success":false,"error":"nobody knows"}'
        return PLACED


class House:
    def __init__(self, opened: OpenedStore) -> None:
        self.opened = opened
        self.store = BatchStore(opened.pipeline, opened.keys)
        self.batches = Batches(self.store, lambda: False)
        self.dialled = Dialled()

    async def begin(self, total: int, *, max_concurrent: int = 1, place: Place | None = None) -> BatchClaim:
        claim = create_batch_claim("key-1", b"request", total)
        await self.batches.begin(claim, max_concurrent, place or self.dialled.place)
        return claim

    async def results(self, claim: BatchClaim) -> list[Any]:
        async with asyncio.timeout(LONG_S):
            standing = await self.batches.wait(claim.batch_id, LONG_S)
        return [None if result is None else json.loads(result) for result in standing.results]

    async def key_of(self, claim: BatchClaim) -> str:
        [key] = [key for key in await self.opened.keys_in_redis() if claim.batch_id.encode() in key]
        return key.decode()


@asynccontextmanager
async def opened_house() -> AsyncIterator[House]:
    opened = OpenedStore("memory://", {})
    house = House(opened)
    try:
        yield house
    finally:
        await house.batches.close()
        await opened.close()


async def test_only_so_many_are_dialled_at_once_and_all_in_the_end() -> None:
    async with opened_house() as house:
        claim = await house.begin(7, max_concurrent=3)
        await house.dialled.begun.wait()
        standing = await house.batches.wait(claim.batch_id, 0.2)
        assert (standing.done, len(house.dialled.indices)) == (0, 3)
        house.dialled.may_answer.set()
        assert await house.results(claim) == [{"success": True, "data": {}}] * 7
    assert sorted(house.dialled.indices) == list(range(7))


async def test_the_same_request_joins_the_batch_that_runs() -> None:
    async with opened_house() as house:
        first, second = await house.begin(2), await house.begin(2)
        house.dialled.may_answer.set()
        assert await house.results(first) == await house.results(second)
    assert sorted(house.dialled.indices) == [0, 1]


async def test_a_batch_that_redis_lost_dials_nobody_any_more() -> None:
    async with opened_house() as house:
        claim = await house.begin(3)
        await house.dialled.begun.wait()
        await house.opened.redis.delete(await house.key_of(claim))
        house.dialled.may_answer.set()
        results = await house.results(claim)
    assert [result["success"] for result in results] == [True, False, False]
    assert all("was not placed" in result["error"] for result in results[1:])
    assert house.dialled.indices == [0]


async def test_whoever_waits_for_a_batch_that_is_gone_is_told_to_ask_again() -> None:
    async with opened_house() as house:
        with pytest.raises(UnavailableError):
            await house.batches.wait("0" * 32, LONG_S)


async def test_a_fault_of_ours_is_the_result_of_that_call_only() -> None:
    async def place(index: int) -> bytes:
        if not index:
            raise ValueError("a fault of ours")
        return PLACED

    async with opened_house() as house:
        results = await house.results(await house.begin(2, place=place))
    assert results == [{"success": False, "error": "Internal server error"}, {"success": True, "data": {}}]


async def test_a_call_that_is_noted_while_the_process_ends_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    is_asked, is_ending = asyncio.Event(), asyncio.Event()

    async def mark_dialling(_: BatchClaim, __: int) -> bool:
        is_asked.set()
        await is_ending.wait()
        return True

    async with opened_house() as house:
        monkeypatch.setattr(house.store, "mark_dialling", mark_dialling)
        claim = await house.begin(1)
        await is_asked.wait()
        asyncio.get_running_loop().call_later(0.05, is_ending.set)
        await house.batches.close()
        standing = await house.store.find(claim.batch_id, LEFT_BEHIND)
    assert standing is not None
    assert standing.results == [STOPPED]
    assert house.dialled.indices == []


async def test_a_fault_before_a_call_is_dialled_is_its_result_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mark_dialling(_: BatchClaim, __: int) -> bool:
        raise ValueError("a fault of ours")

    async with opened_house() as house:
        monkeypatch.setattr(house.store, "mark_dialling", mark_dialling)
        results = await house.results(await house.begin(2))
    assert results == [{"success": False, "error": "Internal server error"}] * 2
    assert house.dialled.indices == []


async def test_at_the_end_of_the_process_every_call_has_a_result_in_redis() -> None:
    async with opened_house() as house:
        claim = await house.begin(4, max_concurrent=2)
        await house.dialled.begun.wait()
        await house.batches.close()
        elsewhere = Batches(house.store, lambda: False)
        standing = await elsewhere.wait(claim.batch_id, LONG_S)
        errors = [json.loads(result or b"")["error"] for result in standing.results]
    assert errors[:2] == ["nobody knows"] * 2
    assert all("The service stops; this call was not placed" in error for error in errors[2:])
    assert sorted(house.dialled.indices) == [0, 1]
