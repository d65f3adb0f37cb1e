"""Reads one call again and again until its watcher has what it waits for: the loop of parked polls and event streams."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self

import msgspec
from starlette.types import Receive

from service.api.archived_calls import ArchivedCalls
from service.api.departure import watch_for_departure
from service.api.reading import read_call
from service.api.state import State
from service.calls.facts import NO_FACTS
from service.calls.record import View
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import StoreUnavailableError

SHORTEST_PARK_S: Final = 0.05
"""Shortest pause between two reads. By our estimate of Redis's clock, a grace may be over before it is over by Redis's own
clock. Until then a read changes nothing, and the next one would be due at once."""

LEAST_RETRY_PAUSE_S: Final = 1.0
MOST_RETRY_PAUSE_S: Final = 3.0
"""The longest pause before what failed is repeated lies between these, at random, so that thousands of polls do not
retry at once."""

Call = StoredCall | Tombstone | None
"""What a read finds; None for a call that nobody has heard of."""


def read_first(state: State, call_id: bytes, view: View, *, is_wait: bool) -> Awaitable[Call]:
    """As ``read_and_schedule``, and from the archive what Redis does not have. VAPI is not asked for that.

    Raises:
        ArchiveUnavailableError: the archive is away, Redis does not have the call, and ``is_wait`` is false: the poll
            wants an answer at once.
    """
    if state.archived_calls is None:
        return read_and_schedule(state, call_id, view)
    return _read_with_archive(state, state.archived_calls, call_id, view, is_wait=is_wait)


async def _read_with_archive(
    state: State, archived: ArchivedCalls, call_id: bytes, view: View, *, is_wait: bool
) -> Call:
    deadline = time.monotonic() + state.settings.store_timeout_s
    call = await _read(state, call_id, view, deadline)
    if archived.may_have_more(call):
        found = await archived.find(call_id, view, call, is_wait=is_wait, deadline=deadline)
        if found is not None:
            return found
    _schedule_if_due(state, call_id, call)
    return call


async def read_and_schedule(state: State, call_id: bytes, view: View) -> Call:
    """The call as it is now. It is queued for reconciling if that is due. Raises StoreUnavailableError, counted."""
    call = await _read(state, call_id, view, None)
    _schedule_if_due(state, call_id, call)
    return call


async def _read(state: State, call_id: bytes, view: View, deadline: float | None) -> Call:
    try:
        return await read_call(state, call_id, view, deadline=deadline)
    except StoreUnavailableError:
        state.metrics.store_error()
        raise


def _schedule_if_due(state: State, call_id: bytes, call: Call) -> None:
    if state.reconciler is not None:
        state.reconciler.schedule_if_due(call_id, call)


class WatchedCall:
    """Enter it before the first read, so that no change is missed, and leave it when the poll or stream ends."""

    __slots__ = ("_departure", "_receive", "_state", "_watch", "view")

    def __init__(self, state: State, call_id: bytes, view: View, receive: Receive) -> None:
        self._state = state
        self.view = view
        self._receive = receive
        self._watch = state.changes.watch(call_id)
        self._departure: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._departure is not None:
            self._departure.cancel()
        self._watch.__exit__(kind, error, trace)

    @property
    def call_id(self) -> bytes:
        return self._watch.call_id

    @property
    def has_left(self) -> bool:
        """Whether the client went away."""
        return self._departure is not None and self._departure.done()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for: the client went away, or the process ends."""
        return self._state.shutdown.has_begun or self.has_left

    @property
    def notified_at(self) -> float | None:
        """When a change was heard of (``time.perf_counter``), if that ended a wait and caused the last read."""
        return self._watch.notified_at if self._departure is not None else None

    def first_read(self) -> Awaitable[Call]:
        """See ``read_first``."""
        return read_first(self._state, self._watch.call_id, self.view, is_wait=True)

    async def ask_archive_again(self, known: Call) -> Call:
        """Ask the archive again: it may have been away at the first read. ``known`` while it or Redis is away."""
        archived = self._state.archived_calls
        if archived is None or not archived.may_have_more(known):
            return known
        try:
            return await self.first_read()
        except StoreUnavailableError:
            return known

    async def next_read(self, known: Call, until: float, *, reads_at_end: bool) -> Call:
        """Park until there is something to read, and read it.

        ``known`` is parked with its watcher: give it ``without_facts``, and hold it no longer.
        Returns it when the client left or the process ends, and at ``until`` (loop time) unless ``reads_at_end``.
        While Redis is away the call stays as it is known; only the read at the end raises StoreUnavailableError.
        """
        if self._departure is None:
            self._departure = watch_for_departure(self._receive, self._watch)
        due_at = self._grace_ends_at(known)
        if self._state.reconciler is not None:
            due_at = min(due_at, self._state.reconciler.schedule_if_due(self._watch.call_id, known))
        due_at = max(due_at, asyncio.get_running_loop().time() + SHORTEST_PARK_S)
        is_woken = await self._watch.wait_until(min(until, due_at))
        now = asyncio.get_running_loop().time()
        # A poller that knows an archived record is parked until its deadline; Redis has nothing newer.
        is_archived = isinstance(known, StoredCall) and known.is_archived
        if self.is_over or is_archived or not (is_woken or reads_at_end or now >= due_at):
            return known
        try:
            return await read_and_schedule(self._state, self._watch.call_id, self.view)
        except StoreUnavailableError:
            if reads_at_end and now >= until:
                raise
            # No further notification may come for this call, so wake the watcher ourselves.
            pause_s = _pause_after(math.inf)
            asyncio.get_running_loop().call_later(pause_s, self._watch.wake)
            return known

    def _grace_ends_at(self, call: Call) -> float:
        """When the report grace of the call ends, in loop time; soon if it has ended, infinity for a call that is in none."""
        if not isinstance(call, StoredCall) or call.data_status != DataStatus.PARTIAL:
            return math.inf
        now_ms = self._state.redis_clock.now_ms(self._watch.call_id)
        ends_in_s = (call.over_at_ms + self._state.settings.report_grace_ms - now_ms) / 1000
        return asyncio.get_running_loop().time() + (ends_in_s if ends_in_s > 0 else _pause_after(-ends_in_s))


def without_facts(call: Call) -> Call:
    """What a watcher needs to know of a call while it is parked. The facts may be 9 MB, and thousands may wait."""
    if not isinstance(call, StoredCall) or call.facts is NO_FACTS:
        return call
    return msgspec.structs.replace(call, facts=NO_FACTS)


def _pause_after(overdue_s: float) -> float:
    """Seconds before the next try: as many as it is overdue, and at most a random 1 to 3. Redis may be full for hours."""
    return min(overdue_s, random.uniform(LEAST_RETRY_PAUSE_S, MOST_RETRY_PAUSE_S))  # noqa: S311 - spreads load
