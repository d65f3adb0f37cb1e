"""A call's lifetimes merge into the record that one lifetime would have left: the archive's rule is that of Redis."""

from __future__ import annotations

import functools
import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from service.calls.facts import Facts
from service.calls.merging import merge_calls, without_facts_before, without_results
from service.calls.status import CALL_DELETED_OFFSET_MS, CALL_DELETED_RANK
from service.calls.stored_call import CallChange, StoredCall
from service.store.calls import CallStore
from tests.support.merge_events import BODIES, CHANGES, PROPERTY
from tests.support.store_events import change, change_from, lifetime_of, stored

NOT_OF_THE_MERGE = {"call_id": b"", "version": 0, "created_at_ms": 0, "updated_at_ms": 0, "expires_at_ms": 0}

_numbers = itertools.count()


async def merged_in_redis(store: CallStore, events: list[CallChange]) -> StoredCall:
    call_id = f"merged-{next(_numbers)}"
    for event in events:
        await store.merge(msgspec.structs.replace(event, call_id=call_id.encode()))
    return await stored(store, call_id)


def comparable_parts(call: StoredCall) -> StoredCall:
    return msgspec.structs.replace(call, over_at_ms=int(call.over_at_ms > 0), **NOT_OF_THE_MERGE)


async def lifetimes_end_as_one(store: CallStore, events: list[CallChange], order: list[CallChange]) -> None:
    merged = functools.reduce(merge_calls, map(lifetime_of, order))
    assert comparable_parts(merged.call) == comparable_parts(await merged_in_redis(store, events))
    assert merged.stamps.keys() == merged.call.facts.known().keys()


@PROPERTY
@given(data=st.data())
async def test_events_in_lifetimes_of_their_own_end_as_in_one_lifetime(store: CallStore, data: st.DataObject) -> None:
    events = data.draw(st.lists(CHANGES, min_size=1, max_size=6))
    await lifetimes_end_as_one(store, events, data.draw(st.permutations(events)))


@PROPERTY
@given(data=st.data())
async def test_messages_in_lifetimes_of_their_own_end_as_in_one_lifetime(store: CallStore, data: st.DataObject) -> None:
    events = [change_from(body) for body in data.draw(st.lists(BODIES, min_size=1, max_size=6))]
    await lifetimes_end_as_one(store, events, data.draw(st.permutations(events)))


def test_a_deletion_beats_what_was_stamped_before_it_and_what_has_no_stamp() -> None:
    old = lifetime_of(change(rank=9, at_ms=5000, cost="1"))
    unstamped = lifetime_of(change(rank=9, at_ms=0, urgency='"x"'))
    new = lifetime_of(change(rank=1, at_ms=5001, location='"Bonn"'))
    whole = functools.reduce(merge_calls, (old, unstamped, new))

    left = without_facts_before(whole, 5000)

    assert left is not None
    assert left.call.facts == Facts(location=b'"Bonn"')
    assert left.stamps == new.stamps
    assert without_facts_before(merge_calls(old, unstamped), 5000) is None


def test_a_deletion_also_beats_the_message_that_says_the_call_was_deleted() -> None:
    said = change(rank=CALL_DELETED_RANK, at_ms=CALL_DELETED_OFFSET_MS + 5000, ended_reason='"call-deleted"')
    assert without_facts_before(lifetime_of(said), 5000) is None
    assert without_facts_before(lifetime_of(said), 4999) is not None


def test_a_record_without_its_results_keeps_what_is_known_of_the_call() -> None:
    said = change(transcript='"Hi"', recording_url='"https://r"', analysis_summary='"s"', cost="1")
    raw = msgspec.structs.replace(lifetime_of(said), raw=b"{}", raw_stamp=b"9" * 17)

    left = without_results(raw)

    assert left.call.facts == Facts(cost=b"1")
    assert left.stamps.keys() == {"cost"}
    assert (left.call.has_transcript, left.raw) == (False, b"")
