"""Pages of a phone number's calls from the archive, with those of Redis that the archive does not have yet."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from service.api.reading import deadlines_of, read_call
from service.api.state import State
from service.archive.database import Archive
from service.calls.record import LARGE_OF_VIEW
from service.calls.stored_call import StoredCall

SUMMARY: Final = LARGE_OF_VIEW["summary"]


async def find_archived_page(
    state: State, archive: Archive, phone: str, *, offset: int, limit: int
) -> tuple[list[StoredCall], int]:
    """The calls of a page, newest ``updated_at`` first and each once, and the number of all calls of the phone number.

    Raises:
        ArchiveUnavailableError: the archive does not answer within ``STORE_TIMEOUT_S``.
        StoreUnavailableError: no bucket of Redis answers within it.
    """
    look_until, deadline = deadlines_of(state)
    fragment = msgspec.json.encode(phone)
    async with state.phone_index.turn(offset + limit, look_until):
        live = await _find_unarchived(state, fragment, look_until, deadline)
        # Each live call may push the archived ones down by one place, so that many more are looked at.
        skipped = max(0, offset - len(live))
        archived = await archive.find_entries(
            phone, offset=skipped, limit=offset + limit - skipped, without=[*live], deadline=deadline
        )
        places = [(call.updated_at_ms, call_id) for call_id, call in live.items()]
        places += [(entry.updated_at_ms, entry.call_id) for entry in archived.entries]
        shown = [call_id for _, call_id in sorted(places, reverse=True)][offset - skipped :][:limit]
        rows = await archive.find_many([each for each in shown if each not in live], SUMMARY, deadline=deadline)
    calls = live | {call_id: stamped.call for call_id, stamped in rows.items()}
    return [calls[call_id] for call_id in shown if call_id in calls], len(live) + archived.count


async def _find_unarchived(
    state: State, fragment: bytes, look_until: float, deadline: float
) -> dict[bytes, StoredCall]:
    """The number's calls whose last change is not a row yet, by id."""
    assert state.archive_stream is not None
    call_ids = await state.archive_stream.find_unarchived(fragment[1:-1], deadline=look_until)
    found = await asyncio.gather(*(read_call(state, call_id, "summary", deadline=deadline) for call_id in call_ids))
    return {
        call.call_id: call
        for call in found
        if isinstance(call, StoredCall) and call.facts.get("customer_phone") == fragment
    }
