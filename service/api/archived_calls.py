"""Finds in the archive what Redis does not have, or has no more."""

from __future__ import annotations

import time
from typing import Final

from service.archive.database import Archive
from service.calls.merging import merge_calls
from service.calls.record import LARGE_OF_VIEW, View
from service.calls.status import Ending
from service.calls.stored_call import StoredCall, Tombstone, UnknownToVapi
from service.config import Settings
from service.errors import ArchiveUnavailableError
from service.store.calls import CallStore

REMEMBERED_LIFETIMES: Final = 10_000
"""Running calls of which this process knows that the archive has no earlier lifetime: 1 MB."""


class ArchivedCalls:
    """Reads the archive for polls, once for each poll of a call that Redis does not have or that has no report there."""

    def __init__(self, settings: Settings, calls: CallStore, archive: Archive) -> None:
        self._timeout_s = settings.store_timeout_s
        self._calls = calls
        self._archive = archive
        self._first_lifetimes: dict[tuple[bytes, int], None] = {}
        """Calls by their id and creation, oldest first. A record does not expire before it is a row, so what the archive
        has of earlier lifetimes does not change while a record lives."""

    def may_have_more(self, call: StoredCall | Tombstone | None) -> bool:
        """Whether Redis has no record of the call, or one without a report. A deleted call stays deleted."""
        if isinstance(call, StoredCall):
            is_first = (call.call_id, call.created_at_ms) in self._first_lifetimes
            return call.ending < Ending.PRELIMINARY_REPORT and not is_first
        return call is None or isinstance(call, UnknownToVapi)

    async def find(
        self, call_id: bytes, view: View, known: StoredCall | Tombstone | None, *, is_wait: bool, deadline: float
    ) -> StoredCall | None:
        """The archived record with what Redis has of the call merged in; None where the archive has nothing to add.

        A poll that waits gets only a final archived record. So does any poll of a record that is in
        Redis.

        Raises:
            ArchiveUnavailableError: the archive does not answer by ``deadline``, ``is_wait`` is false, and Redis has no
                record to answer with.
        """
        try:
            archived = await self._archive.find(call_id, LARGE_OF_VIEW[view], deadline=deadline)
        except ArchiveUnavailableError:
            if not is_wait and not isinstance(known, StoredCall):
                raise
            return None
        is_final = archived is not None and archived.call.is_final
        if isinstance(known, StoredCall):
            if not is_final or archived is None:
                self._remember(known)
                return None
            live = await self._calls.find_stamped(call_id, deadline=deadline)
            return merge_calls(archived, live).call if live else archived.call
        if archived is None or (is_wait and not is_final):
            return None
        return archived.call

    async def complete(self, call_id: bytes, known: StoredCall | Tombstone | None) -> StoredCall | Tombstone | None:
        """What is known of a call in Redis, or its final record if only the archive has that.

        Raises:
            ArchiveUnavailableError: Redis does not know the call, and the archive does not answer.
        """
        if not self.may_have_more(known):
            return known
        deadline = time.monotonic() + self._timeout_s
        found = await self.find(call_id, "summary", known, is_wait=False, deadline=deadline)
        return found or known

    async def has_final(self, call_id: bytes) -> bool:
        """Whether only the archive has the call's final record. False also while the archive does not answer."""
        known = await self._calls.find(call_id)
        try:
            call = await self.complete(call_id, known)
        except ArchiveUnavailableError:
            return False
        return isinstance(call, StoredCall) and call.is_archived and call.is_final

    def _remember(self, call: StoredCall) -> None:
        while len(self._first_lifetimes) >= REMEMBERED_LIFETIMES:
            del self._first_lifetimes[next(iter(self._first_lifetimes))]
        self._first_lifetimes[call.call_id, call.created_at_ms] = None
