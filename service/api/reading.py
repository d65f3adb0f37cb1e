"""Reads calls from Redis for answers: each within the time that its request may take."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from service.api.state import State
from service.calls.record import LARGE_OF_VIEW, View, is_past_grace
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import StoreUnavailableError

SCAN_SHARE: Final = 0.5
"""Share of ``STORE_TIMEOUT_S`` for reading the indexes; one attempt at a server takes as long."""


class CallPage(msgspec.Struct, frozen=True):
    """A page of a phone number's calls."""

    calls: list[StoredCall]
    """Newest ``updated_at`` first, each once."""
    count: int
    """The number of all calls of the phone number."""
    missing_buckets: tuple[int, ...]
    """These did not answer: what Redis has there is neither listed nor counted."""


def deadlines_of(state: State) -> tuple[float, float]:
    """Two deadlines for an answer about many calls: one to scan all buckets, one to read the calls that were found.

    A bucket whose shard is away does not answer. A scan that spent the request's whole time waiting for it would
    leave no time to read the calls in the other buckets.
    """
    now, timeout_s = time.monotonic(), state.settings.store_timeout_s
    return now + timeout_s * SCAN_SHARE, now + timeout_s


async def read_call(
    state: State, call_id: bytes, view: View, *, deadline: float | None = None
) -> StoredCall | Tombstone | None:
    """The call as it is now, read within ``STORE_TIMEOUT_S`` or by ``deadline`` (``time.monotonic``).

    If its report grace has ended, that is written first. If Redis cannot take the write (it may be full), the call is
    returned as it was.
    """
    if deadline is None:
        deadline = time.monotonic() + state.settings.store_timeout_s
    call = await state.calls.find(call_id, LARGE_OF_VIEW[view], deadline=deadline)
    if (
        isinstance(call, StoredCall)
        and call.data_status == DataStatus.PARTIAL  # checked first: most calls are not, and the clock costs 1 us
        and is_past_grace(call, state.redis_clock.now_ms(call_id), state.settings.report_grace_ms)
    ):
        try:
            state.metrics.merged(await state.calls.expire_grace(call_id, deadline=deadline))
        except StoreUnavailableError:
            return call
        call = await state.calls.find(call_id, LARGE_OF_VIEW[view], deadline=deadline)
    return call
