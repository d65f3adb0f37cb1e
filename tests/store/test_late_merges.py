"""A merge that Redis applied although its reply came too late: whoever merges the change again brings the counts."""

from __future__ import annotations

from typing import Any

import msgspec

from service.calls.stored_call import CallChange
from service.store.call_codec import decode_spooled, encode_spooled
from service.store.calls import CallStore
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report


def out_of_the_spool(change: CallChange) -> CallChange:
    return decode_spooled(encode_spooled(change))


async def test_a_change_that_is_merged_again_out_of_the_spool_is_told_its_firsts_again(store: CallStore) -> None:
    change = change_from(full_report())
    first = await store.merge(change)
    again = await store.merge(out_of_the_spool(change))

    assert first.became_final is not None
    assert again.became_final is not None
    assert again.became_final.facts == first.became_final.facts
    assert (first.became_complete, again.became_complete) == (True, True)


async def test_the_same_message_delivered_twice_is_told_nothing_the_second_time(store: CallStore) -> None:
    await store.merge(change_from(full_report()))
    second = await store.merge(change_from(full_report()))

    assert (second.became_final, second.became_complete) == (None, False)


async def test_a_change_that_the_first_version_spooled_without_a_token_is_merged(store: CallStore) -> None:
    spooled = msgspec.msgpack.decode(encode_spooled(change_from(full_report())), type=dict[str, Any])
    del spooled["token"]
    merged = await store.merge(decode_spooled(msgspec.msgpack.encode(spooled)))

    assert merged.became_final is not None
