"""Polls of made-up ids, with reconciling on, cannot fill Redis."""

from __future__ import annotations

import asyncio

from service.store.reconcile_leases import UNKNOWN_LIFE_MS, ReconcileLeases
from tests.support.eventually import eventually
from tests.support.opened_store import OpenedStore, OpenStore

BYTES_EACH_AT_MOST = 600


async def test_what_is_not_asked_for_is_forgotten_within_seconds(opened: OpenedStore) -> None:
    asking = ReconcileLeases(opened.settings, opened.pipeline, opened.keys)

    async def claim_and_release(number: int) -> None:
        call_id = b"made-up-%d" % number
        await asking.release(call_id, await asking.claim(call_id))

    await asyncio.gather(*(claim_and_release(number) for number in range(200)))

    async def is_forgotten() -> bool:
        return await opened.keys_in_redis() == []

    await eventually(is_forgotten, 30.0)


async def test_what_is_asked_for_is_remembered_for_minutes(opened: OpenedStore) -> None:
    asking = ReconcileLeases(opened.settings, opened.pipeline, opened.keys)
    claim = await asking.claim(b"made-up")
    await asking.note_missing(b"made-up", claim)
    await asking.release(b"made-up", claim)

    assert await opened.redis.pttl(opened.keys.call(b"made-up")) > UNKNOWN_LIFE_MS - 60_000


async def test_one_that_is_remembered_takes_little_memory(open_on: OpenStore) -> None:
    opened = await open_on()
    asking = ReconcileLeases(opened.settings, opened.pipeline, opened.keys)
    before = (await opened.redis.info("memory"))["used_memory"]
    await asyncio.gather(*(asking.claim(b"%0128d" % number) for number in range(6_000)))
    used = (await opened.redis.info("memory"))["used_memory"] - before

    assert used < 6_000 * BYTES_EACH_AT_MOST
