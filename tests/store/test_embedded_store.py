"""The embedded store does what a redis-server does: the same events leave the same record, and merge the same way."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.calls.record import LARGE_OF_VIEW, View, render_record
from service.calls.stored_call import CallChange, Merged, StoredCall
from service.store.calls import CallStore
from tests.support.merge_events import BODIES, CHANGES
from tests.support.opened_store import OpenedStore
from tests.support.redis_server import RedisProcess
from tests.support.store_events import change_from

CLOCKS: Final = ("created_at", "updated_at", "expires_at")
STEPS = st.lists(
    st.one_of(st.builds(change_from, BODIES), CHANGES, st.sampled_from(("settle", "delete"))), min_size=1, max_size=8
)

_numbers = itertools.count()


@pytest.fixture
async def both(redis_process: RedisProcess) -> AsyncIterator[tuple[OpenedStore, OpenedStore]]:
    opened = OpenedStore("memory://", {}), OpenedStore(redis_process.url, {})
    yield opened
    for one in opened:
        await one.close()


async def _take(store: CallStore, step: CallChange | str, call_id: bytes) -> object:
    """One step, and what it answered, less the clock."""
    if step == "delete":
        return await store.delete(call_id)
    if isinstance(step, str):
        return _timeless(await store.expire_grace(call_id))
    return _timeless(await store.merge(msgspec.structs.replace(step, call_id=call_id)))


def _timeless(merged: Merged) -> tuple[object, ...]:
    final = merged.became_final
    told = final and (final.version, final.status, final.ending, final.data_status, final.has_transcript, final.facts)
    return merged.is_deleted, merged.is_changed, merged.became_complete, told


async def _rendered(store: CallStore, call_id: bytes, view: View) -> Any:
    call = await store.find(call_id, LARGE_OF_VIEW[view])
    if not isinstance(call, StoredCall):
        return call
    try:
        record = json.loads(render_record(call, view))
    except ValueError:  # a change made by hand may hold what no message gives: a time that is none
        return call.facts, call.version, call.data_status
    return {name: value for name, value in record.items() if name not in CLOCKS}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_the_same_steps_leave_the_same_record(both: tuple[OpenedStore, OpenedStore], steps: list[Any]) -> None:
    embedded, real = (one.store for one in both)
    call_id = b"call-%d" % next(_numbers)

    for step in steps:
        assert await _take(embedded, step, call_id) == await _take(real, step, call_id)
        assert await _rendered(embedded, call_id, "full") == await _rendered(real, call_id, "full")
    assert await _rendered(embedded, call_id, "summary") == await _rendered(real, call_id, "summary")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_the_same_steps_leave_the_same_keys(both: tuple[OpenedStore, OpenedStore], steps: list[Any]) -> None:
    for one in both:
        for step in steps:
            await _take(one.store, step, b"call-1")

    names = [[key.partition(b":")[2] for key in await one.keys_in_redis()] for one in both]
    assert names[0] == names[1]
