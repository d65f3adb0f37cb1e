"""What was complete stays complete: which events were applied decides, never which of their reasons won."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.store.calls import CallStore
from service.store.keys import bucket_of
from tests.support.opened_store import OpenedStore, OpenStore
from tests.support.store_events import change_from, merged_facts, record, stored
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update

CALL: Final = b"call-1"
RESULT_MS: Final = 1_800_000

PROPERTY: Final = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

REASONS: Final = st.sampled_from((None, "voicemail", "customer-busy", "assistant-ended-call", "pipeline-error"))
TIMESTAMPS: Final = st.sampled_from((0, 1, 1, 2))
EVENTS: Final = st.one_of(
    st.builds(
        lambda reason, at: preliminary_report(endedReason=reason, timestamp=at), REASONS, TIMESTAMPS
    ),
    st.builds(
        lambda status, reason, at: status_update(status, endedReason=reason, timestamp=at),
        st.sampled_from(("ringing", "in-progress", "ended")), REASONS, TIMESTAMPS,
    ),
    st.builds(lambda at: message("hang", timestamp=at), TIMESTAMPS),
)  # fmt: skip
"""Nothing of them is a full report: only an end without an analysis completes the record."""

_numbers = itertools.count()


async def merge(store: CallStore, *bodies: dict[str, Any]) -> object:
    for body in bodies:
        await store.merge(change_from(body))
    return (await record(store))["data_status"]


def expected_of(bodies: list[dict[str, Any]]) -> str:
    """The rule, from all events at once."""
    messages = [body["message"] for body in bodies]
    over = [one for one in messages if one["type"] == "end-of-call-report" or one.get("status") == "ended"]
    if not over:
        return "pending"
    is_reported = any(one["type"] == "end-of-call-report" for one in over)
    can_have_analysis = not any(one["endedReason"] in ("voicemail", "customer-busy") for one in over)
    return "complete" if is_reported and not can_have_analysis else "partial"


async def test_a_later_report_of_another_reason_leaves_a_complete_record_complete(opened: OpenedStore) -> None:
    assert await merge(opened.store, preliminary_report(endedReason="voicemail", timestamp=1)) == "complete"

    assert await merge(opened.store, preliminary_report(endedReason="assistant-ended-call", timestamp=2)) == "complete"

    assert (await record(opened.store))["ended_reason"] == "assistant-ended-call", "facts are still merged"
    assert await opened.redis.pttl(opened.keys.call(CALL)) <= RESULT_MS
    assert await opened.redis.zcard(opened.keys.indices[bucket_of(CALL)][2]) == 0, "nothing awaits its grace"


async def test_after_the_grace_it_is_still_complete(open_store: OpenStore) -> None:
    store = (await open_store(REPORT_GRACE_S=0)).store
    await merge(store, preliminary_report(endedReason="voicemail", timestamp=1))
    again = await store.merge(change_from(preliminary_report(endedReason="pipeline-error", timestamp=2)))
    settled = await store.expire_grace(CALL)

    assert (again.became_final, again.became_complete, settled.is_changed) == (None, False, False)
    assert (await record(store))["data_status"] == "complete"


async def test_the_reason_of_a_status_update_counts_also_where_another_one_won(store: CallStore) -> None:
    assert await merge(store, status_update("ended", endedReason="customer-busy", timestamp=1)) == "partial"
    assert await merge(store, status_update("ended", endedReason="pipeline-error", timestamp=2)) == "partial"

    assert await merge(store, preliminary_report(endedReason="pipeline-error", timestamp=3)) == "complete"


async def test_the_reason_of_a_running_call_says_nothing(store: CallStore) -> None:
    assert await merge(store, status_update("in-progress", endedReason="customer-busy")) == "pending"
    assert (await record(store))["ended_reason"] is None

    assert await merge(store, preliminary_report(endedReason=None)) == "partial"


@PROPERTY
@given(data=st.data())
async def test_in_every_order_and_repetition_the_events_applied_decide(store: CallStore, data: st.DataObject) -> None:
    bodies = data.draw(st.lists(EVENTS, min_size=1, max_size=6))
    other_order = data.draw(st.permutations(bodies + data.draw(st.lists(st.sampled_from(bodies), max_size=3))))

    for order in (bodies, other_order):
        call_id = f"call-{next(_numbers)}"
        was_complete = False
        for applied, body in enumerate(order, 1):
            await store.merge(msgspec.structs.replace(change_from(body), call_id=call_id.encode()))
            status = (await record(store, call_id))["data_status"]
            assert status == expected_of(order[:applied])
            assert status == "complete" or not was_complete
            was_complete = status == "complete"


@PROPERTY
@given(data=st.data())
async def test_interleaved_over_replicas_the_events_applied_decide(opened: OpenedStore, data: st.DataObject) -> None:
    replicas = [opened.store, CallStore(opened.settings, opened.start_pipeline(1), opened.keys)]
    bodies = data.draw(st.lists(EVENTS, min_size=1, max_size=8))
    call_id = f"call-{next(_numbers)}"
    changes = [msgspec.structs.replace(change_from(body), call_id=call_id.encode()) for body in bodies + bodies]

    await asyncio.gather(*(replicas[number % 2].merge(change) for number, change in enumerate(changes)))

    assert (await merged_facts(opened.store, call_id))["data_status"] == expected_of(bodies)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # What it knew of was complete.
        ([preliminary_report(endedReason="voicemail", timestamp=1)], [preliminary_report(timestamp=2)]),
        # What it knew of would be complete with any report.
        ([status_update("ended", endedReason="voicemail", timestamp=1)], [preliminary_report(timestamp=2)]),
        ([status_update("ended", endedReason="voicemail", timestamp=1)], [preliminary_report(endedReason=None)]),
    ],
)
async def test_a_record_of_the_first_version_is_read_and_stays_complete(
    opened: OpenedStore, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    await merge(opened.store, *before)
    # Version 0.1.0 does not write this field.
    await opened.redis.hdel(opened.keys.call(CALL).decode(), "no_analysis")

    assert await merge(opened.store, *after) == "complete"


async def test_a_replica_of_the_first_version_reads_what_this_one_writes(opened: OpenedStore) -> None:
    await merge(opened.store, preliminary_report(endedReason="voicemail"), full_report())

    state = await opened.redis.hget(opened.keys.call(CALL).decode(), "state")
    assert state is not None
    assert len(state.split()) == 11, "it takes these apart by their number"
    assert (await stored(opened.store)).data_status == 2
