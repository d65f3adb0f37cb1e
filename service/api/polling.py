"""``GET /api/v1/vapi/calls/{call_id}``: returns the record at once, or as soon as it is final."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from service.api.archived_calls import ArchivedCalls
from service.api.auth import Access
from service.api.poll_request import PollRequest, is_known, read_poll_request
from service.api.reading import read_call
from service.api.responses import LARGE_BODY_BYTES, Headers, SharedBody, send_answer, send_unchanged
from service.api.state import State
from service.calls.record import etag_of, render_pending, render_record
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import NotFoundError, ServiceError, StoreUnavailableError
from service.store.changes import Watch

PREFIX: Final = "/api/v1/vapi/calls/"
ROUTE: Final = PREFIX + "{call_id}"

RETRY_AFTER: Final = (b"retry-after", b"1")

SHORTEST_PARK_S: Final = 0.05
"""Shortest pause between two reads, when another poller already applies the expiry."""


PAUSE_AFTER_FAILURE_S: Final = (1.0, 3.0)
"""Pause before a failed read is repeated. It is random, so that thousands of polls do not retry at once."""


class _Answer(msgspec.Struct, frozen=True):
    """The answer to a poll. It does not hold the record, so the record is freed while a slow client reads the body."""

    status: int
    body: bytes
    headers: Headers
    shared: SharedBody | None = None
    """Set when other answers may share the body."""


class Polling:
    """The endpoint as a plain ASGI application: polls are too many, and stay parked too long, for Request objects."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._reconciler = state.reconciler
        self._archived = ArchivedCalls(state, state.archive) if state.archive is not None else None
        self._bodies = state.large_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = ROUTE
        metrics = self._state.metrics
        try:
            self._state.tokens.verify(scope, Access.READ)
            poll = read_poll_request(scope, PREFIX, self._state.settings.max_wait_s)
            scope["log"]["call_id"] = poll.call_id.decode()
            if poll.wait_s is None:
                answer: _Answer | None = await self._answer_now(poll)
            else:
                scope["log"]["wait_s"] = poll.wait_s
                answer = await self._answer_when_final(poll, poll.wait_s, receive)
            if answer is None:
                return
            if len(answer.body) > LARGE_BODY_BYTES:
                await self._bodies.wait_for_turn()
        except Exception as exc:
            metrics.poll(exc.status if isinstance(exc, ServiceError) else 500)
            raise
        metrics.poll(answer.status)
        if answer.status == 304:
            await send_unchanged(send, answer.headers)
        else:
            await send_answer(send, answer.status, answer.body, answer.headers)

    async def _answer_now(self, poll: PollRequest) -> _Answer:
        started = time.perf_counter()
        try:
            call = await (self._read(poll) if self._archived is None else self._read_both(poll, self._archived))
            self._count_first(call, is_wait=False)
            return self._as_it_stands(poll, call)
        finally:
            self._state.metrics.poll_duration.add(time.perf_counter() - started)

    def _as_it_stands(self, poll: PollRequest, call: StoredCall | Tombstone | None) -> _Answer:
        if not isinstance(call, StoredCall):
            raise NotFoundError("Call result not found")
        etag = etag_of(call, poll.view)
        if is_known(etag, poll.known_etags):
            return self._unchanged(etag, ())
        return self._record(poll, call, etag, ())

    async def _answer_when_final(self, poll: PollRequest, wait_s: float, receive: Receive) -> _Answer | None:
        """None when the poller has left. The watch starts before the first read, so that no change is missed."""
        changes = self._state.changes
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        gone: asyncio.Task[None] | None = None
        with changes.watch(poll.call_id) as watch:
            call = await (self._read(poll) if self._archived is None else self._read_both(poll, self._archived))
            self._count_first(call, is_wait=True)
            try:
                while not (should_answer(poll, call) or self._state.shutdown.has_begun or loop.time() >= deadline):
                    if gone is None:
                        gone = _watch_for_departure(receive, watch)
                    await self._park(watch, call, deadline)
                    if gone.done():
                        return None
                    if not self._state.shutdown.has_begun:
                        call = await self._read_again(poll, call, watch, is_last=loop.time() >= deadline)
            finally:
                if gone is not None:
                    gone.cancel()
        answer = self._outcome(poll, call)
        if gone is not None and watch.told_at is not None:
            self._state.metrics.wake_latency.add(time.perf_counter() - watch.told_at)
        return answer

    async def _park(self, watch: Watch, call: StoredCall | Tombstone | None, deadline: float) -> None:
        """Wait for a change, the next read that is due, the deadline, the poller's departure or shutdown."""
        until = min(deadline, self._schedule_next_read(watch.call_id, call))
        self._state.metrics.poll_parked(1)
        try:
            await watch.wait_until(until)
        finally:
            self._state.metrics.poll_parked(-1)

    def _schedule_next_read(self, call_id: bytes, call: StoredCall | Tombstone | None) -> float:
        """When to read again without a notification: at the end of grace or to reconcile, which this starts if due."""
        now = asyncio.get_running_loop().time()
        moment = math.inf
        if isinstance(call, StoredCall) and call.data_status == DataStatus.PARTIAL:
            ends_in_ms = call.over_at_ms + self._state.settings.report_grace_ms - self._state.sweep.now_ms(call_id)
            moment = now + ends_in_ms / 1000
        if self._reconciler is not None:
            moment = min(moment, self._reconciler.schedule_if_due(call_id, call))
        return max(now + SHORTEST_PARK_S, moment)

    async def _read_both(self, poll: PollRequest, archived: ArchivedCalls) -> StoredCall | Tombstone | None:
        """As ``_read``, once per poll, and from the archive what Redis does not have. VAPI is not asked for that."""
        deadline = time.monotonic() + self._state.settings.store_timeout_s
        call = await self._read_store(poll, deadline)
        if archived.may_have_more(call):
            found = await archived.find(poll, call, deadline)
            if found is not None:
                return found
        if self._reconciler is not None:
            self._reconciler.schedule_if_due(poll.call_id, call)
        return call

    async def _read_store(self, poll: PollRequest, deadline: float) -> StoredCall | Tombstone | None:
        try:
            return await read_call(self._state, poll.call_id, poll.view, deadline=deadline)
        except StoreUnavailableError:
            self._state.metrics.store_error()
            raise

    async def _read(self, poll: PollRequest) -> StoredCall | Tombstone | None:
        try:
            call = await read_call(self._state, poll.call_id, poll.view)
        except StoreUnavailableError:
            self._state.metrics.store_error()
            raise
        if self._reconciler is not None:
            self._reconciler.schedule_if_due(poll.call_id, call)
        return call

    async def _read_again(
        self, poll: PollRequest, known: StoredCall | Tombstone | None, watch: Watch, *, is_last: bool
    ) -> StoredCall | Tombstone | None:
        """While Redis is away, the poll stays parked with the call it knows. Only the last read may fail it."""
        if isinstance(known, StoredCall) and known.is_archived:
            return known  # parked only until its deadline, as the poller knows this very record
        try:
            return await self._read(poll)
        except StoreUnavailableError:
            if is_last:
                raise
            # No further notification may come for this call, so wake the poll ourselves.
            pause_s = random.uniform(*PAUSE_AFTER_FAILURE_S)  # noqa: S311 - spreads load
            asyncio.get_running_loop().call_later(pause_s, watch.wake)
            return known

    def _count_first(self, call: StoredCall | Tombstone | None, *, is_wait: bool) -> None:
        self._state.metrics.poll_found(is_hit=isinstance(call, StoredCall), is_wait=is_wait)

    def _outcome(self, poll: PollRequest, call: StoredCall | Tombstone | None) -> _Answer:
        echo = poll.preference_applied
        if isinstance(call, Tombstone):
            raise NotFoundError("Call result not found")
        if call is None:
            return self._pending(poll, None, echo)
        etag = etag_of(call, poll.view)
        if is_known(etag, poll.known_etags):
            return self._unchanged(etag, echo)
        if DataStatus(call.data_status).is_final:
            return self._record(poll, call, etag, echo)
        return self._pending(poll, call, ((b"etag", etag), *echo))

    def _record(self, poll: PollRequest, call: StoredCall, etag: bytes, more: Headers) -> _Answer:
        headers = ((b"etag", etag), *more)
        key = (call.call_id, etag, call.expires_at_ms)
        shared = self._bodies.find(key)
        if shared is not None:
            return _Answer(200, shared.content, headers, shared)
        body = b'{"success":true,"data":%b}' % render_record(call, poll.view)
        return _Answer(200, body, headers, self._bodies.keep(key, body) if len(body) > LARGE_BODY_BYTES else None)

    def _pending(self, poll: PollRequest, call: StoredCall | None, more: Headers) -> _Answer:
        body = b'{"success":true,"data":%b}' % render_pending(poll.call_id, call)
        return _Answer(202, body, (RETRY_AFTER, *more))

    def _unchanged(self, etag: bytes, more: Headers) -> _Answer:
        return _Answer(304, b"", ((b"etag", etag), *more))


def should_answer(poll: PollRequest, call: StoredCall | Tombstone | None) -> bool:
    """True when a waiting poll gets its answer now: the call was deleted, or its record is final.

    With known etags: the record differs from them, or it is complete.
    """
    if call is None:
        return False
    if isinstance(call, Tombstone):
        return True
    if not poll.known_etags:
        return DataStatus(call.data_status).is_final
    if is_known(etag_of(call, poll.view), poll.known_etags):
        return call.data_status == DataStatus.COMPLETE
    return True


def _watch_for_departure(receive: Receive, watch: Watch) -> asyncio.Task[None]:
    """A task that ends, and wakes the watch, when the poller goes away."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.get_running_loop().create_task(until_gone(), name="poller-departure")
    gone.add_done_callback(lambda _: watch.wake())
    return gone
