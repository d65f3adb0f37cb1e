"""A merge that Redis applied although its reply came too late: whoever merges the change again brings the counts."""

from __future__ import annotations

import msgspec

from service.store.calls import CallStore
from service.store.shapes import CallChange
from service.store.spool_drain import decode_change
from service.store.spool_file import SpooledChange
from tests.store.events import change_from
from tests.support.vapi_sender import full_report


def out_of_the_spool(change: CallChange) -> CallChange:
    encoded = msgspec.msgpack.encode(change)
    return decode_change(SpooledChange(1, change.call_id.decode(), 0, encoded))


async def test_a_change_that_is_merged_again_out_of_the_spool_is_told_its_firsts_again(store: CallStore) -> None:
    change = change_from(full_report())
    first = await store.merge(change)
    again = await store.merge(out_of_the_spool(change))

    assert first.became_final is not None
    assert again.became_final is not None
    assert again.became_final.small == first.became_final.small
    assert (first.became_complete, again.became_complete) == (True, True)


async def test_the_same_message_delivered_twice_is_told_nothing_the_second_time(store: CallStore) -> None:
    await store.merge(change_from(full_report()))
    second = await store.merge(change_from(full_report()))

    assert (second.became_final, second.became_complete) == (None, False)


async def test_a_change_that_the_version_before_spooled_without_a_token_is_merged(store: CallStore) -> None:
    old = {name: value for name, value in msgspec.structs.asdict(change_from(full_report())).items() if name != "token"}
    encoded = msgspec.msgpack.encode(old)
    merged = await store.merge(decode_change(SpooledChange(1, "call-1", 0, encoded)))

    assert merged.became_final is not None
