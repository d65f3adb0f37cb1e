"""Pages of a phone number's calls from the archive, with those of Redis that the archive does not have yet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from service.api.reading import CallPage, deadlines_of, read_call
from service.api.state import State
from service.archive.database import Archive
from service.calls.record import LARGE_OF_VIEW
from service.calls.stored_call import TOMBSTONE, StoredCall
from service.errors import StoreUnavailableError

SUMMARY: Final = LARGE_OF_VIEW["summary"]


class _Places(msgspec.Struct, frozen=True):
    """Which calls are on a page."""

    call_ids: list[bytes]
    count: int
    """The number of all calls of the phone number."""


async def find_archived_page(state: State, archive: Archive, phone: str, *, offset: int, limit: int) -> CallPage:
    """A page of the number's calls in the archive and in Redis.

    Raises:
        ArchiveUnavailableError: the archive does not answer within ``STORE_TIMEOUT_S``.
        StoreUnavailableError: no bucket of Redis answers within it.
    """
    assert state.archive_stream is not None
    look_until, deadline = deadlines_of(state)
    fragment = msgspec.json.encode(phone)

    async def find_places(deleted: Collection[bytes]) -> _Places:
        # Each live call may push the archived ones down by one place, so that many more are looked at.
        skipped = max(0, offset - len(live))
        archived = await archive.find_entries(
            phone, offset=skipped, limit=offset + limit - skipped, without=[*live, *deleted], deadline=deadline
        )
        places = [(updated_at_ms, call_id) for call_id, updated_at_ms in live.items()]
        places += [(entry.updated_at_ms, entry.call_id) for entry in archived.entries]
        shown = [call_id for _, call_id in sorted(places, reverse=True)][offset - skipped :][:limit]
        return _Places(shown, len(live) + archived.count)

    async with state.phone_index.turn(offset + limit, look_until):
        unarchived = await state.archive_stream.find_unarchived(fragment[1:-1], deadline=look_until)
        live = unarchived.updated_at_ms
        places = await find_places(())
        if deleted := await _find_deleted(state, [each for each in places.call_ids if each not in live], deadline):
            places = await find_places(deleted)
        calls = await _read_live(state, [each for each in places.call_ids if each in live], fragment, deadline)
        rows = await archive.find_many(
            [each for each in places.call_ids if each not in live], SUMMARY, deadline=deadline
        )
    calls |= {call_id: stamped.call for call_id, stamped in rows.items()}
    shown = [calls[call_id] for call_id in places.call_ids if call_id in calls]
    return CallPage(shown, places.count, unarchived.missing_buckets)


async def _find_deleted(state: State, call_ids: Sequence[bytes], deadline: float) -> list[bytes]:
    """Those whose deletion the archive may not have yet."""
    found = await asyncio.gather(
        *(state.calls.find(call_id, deadline=deadline) for call_id in call_ids), return_exceptions=True
    )
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, StoreUnavailableError):
            raise each
    return [call_id for call_id, each in zip(call_ids, found, strict=True) if each is TOMBSTONE]


async def _read_live(
    state: State, call_ids: Sequence[bytes], fragment: bytes, deadline: float
) -> dict[bytes, StoredCall]:
    """Without those that have another number by now."""
    found = await asyncio.gather(*(read_call(state, call_id, "summary", deadline=deadline) for call_id in call_ids))
    return {
        call.call_id: call for call in found if isinstance(call, StoredCall) and call.facts.customer_phone == fragment
    }
