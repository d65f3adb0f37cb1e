"""``GET /api/v1/vapi/calls/{call_id}``: returns the record at once, or as soon as it is final."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from service.api.auth import Access
from service.api.poll_request import PollRequest, is_known, read_poll_request
from service.api.responses import SHARED_ABOVE_BYTES, Headers, SharedBody, send_answer, send_unchanged
from service.api.state import State
from service.api.watched_call import WatchedCall, read_first, without_facts
from service.calls.record import etag_of, render_pending, render_record
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import NotFoundError, ServiceError
from service.headers import RETRY_AFTER_1_S

PREFIX: Final = "/api/v1/vapi/calls/"
ROUTE: Final = PREFIX + "{call_id}"


class _PollAnswer(msgspec.Struct, frozen=True):
    """The answer to a poll. It does not hold the record, so the record is freed while a slow client reads the body."""

    status: int
    body: bytes
    headers: Headers
    shared: SharedBody | None = None
    """Only held: SharedBodies knows a body as long as an answer that sends it holds it."""


class Polling:
    """The endpoint as a plain ASGI application: polls are too many, and stay parked too long, for Request objects."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._shared_bodies = state.large_bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = ROUTE
        metrics = self._state.metrics
        try:
            self._state.tokens.verify(scope, Access.READ)
            poll = read_poll_request(scope, PREFIX, self._state.settings.max_wait_s)
            scope["log"]["call_id"] = poll.call_id.decode()
            if poll.wait_s is None:
                answer: _PollAnswer | None = await self._answer_now(poll)
            else:
                scope["log"]["wait_s"] = poll.wait_s
                answer = await self._answer_after_waiting(poll, poll.wait_s, receive)
            if answer is None:
                return
            if len(answer.body) > SHARED_ABOVE_BYTES:
                await self._shared_bodies.wait_for_turn()
        except Exception as exc:
            metrics.poll(exc.status if isinstance(exc, ServiceError) else 500)
            raise
        metrics.poll(answer.status)
        if answer.status == 304:
            await send_unchanged(send, answer.headers)
        else:
            await send_answer(send, answer.status, answer.body, answer.headers)

    async def _answer_now(self, poll: PollRequest) -> _PollAnswer:
        started = time.perf_counter()
        try:
            call = await read_first(self._state, poll.call_id, poll.view, is_wait=False)
            self._count_first(call, is_wait=False)
            return self._as_it_stands(poll, call)
        finally:
            self._state.metrics.poll_duration.add(time.perf_counter() - started)

    def _as_it_stands(self, poll: PollRequest, call: StoredCall | Tombstone | None) -> _PollAnswer:
        if not isinstance(call, StoredCall):
            raise NotFoundError("Call result not found")
        etag = etag_of(call, poll.view)
        if is_known(etag, poll.known_etags):
            return self._unchanged(etag, ())
        return self._record(poll, call, etag, ())

    async def _answer_after_waiting(self, poll: PollRequest, wait_s: float, receive: Receive) -> _PollAnswer | None:
        """None when the poller has left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        with WatchedCall(self._state, poll.call_id, poll.view, receive) as watched:
            call = await watched.first_read()
            self._count_first(call, is_wait=True)
            while not (should_answer(poll, call) or watched.is_over or loop.time() >= deadline):
                call = without_facts(call)
                self._state.metrics.poll_parked(1)
                try:
                    call = await watched.next_read(call, deadline, reads_at_end=True)
                finally:
                    self._state.metrics.poll_parked(-1)
            if watched.has_left:
                return None
        answer = self._answer_for_waiter(poll, call)
        if watched.notified_at is not None and answer.status != 202:  # 202: a change, but the deadline ended the poll
            self._state.metrics.wake_latency.add(time.perf_counter() - watched.notified_at)
        return answer

    def _count_first(self, call: StoredCall | Tombstone | None, *, is_wait: bool) -> None:
        self._state.metrics.poll_found(is_hit=isinstance(call, StoredCall), is_wait=is_wait)

    def _answer_for_waiter(self, poll: PollRequest, call: StoredCall | Tombstone | None) -> _PollAnswer:
        echo = poll.preference_applied
        if isinstance(call, Tombstone):
            raise NotFoundError("Call result not found")
        if call is None:
            return self._pending(poll, None, echo)
        etag = etag_of(call, poll.view)
        if is_known(etag, poll.known_etags):
            return self._unchanged(etag, echo)
        if call.is_final:
            return self._record(poll, call, etag, echo)
        return self._pending(poll, call, ((b"etag", etag), *echo))

    def _record(self, poll: PollRequest, call: StoredCall, etag: bytes, more: Headers) -> _PollAnswer:
        headers = ((b"etag", etag), *more)
        key = (call.call_id, etag, call.expires_at_ms)
        shared = self._shared_bodies.find(key)
        if shared is not None:
            return _PollAnswer(200, shared.content, headers, shared)
        body = b'{"success":true,"data":%b}' % render_record(call, poll.view)
        return _PollAnswer(
            200, body, headers, self._shared_bodies.keep(key, body) if len(body) > SHARED_ABOVE_BYTES else None
        )

    def _pending(self, poll: PollRequest, call: StoredCall | None, more: Headers) -> _PollAnswer:
        body = b'{"success":true,"data":%b}' % render_pending(poll.call_id, call)
        return _PollAnswer(202, body, (RETRY_AFTER_1_S, *more))

    def _unchanged(self, etag: bytes, more: Headers) -> _PollAnswer:
        return _PollAnswer(304, b"", ((b"etag", etag), *more))


def should_answer(poll: PollRequest, call: StoredCall | Tombstone | None) -> bool:
    """True when a waiting poll gets its answer now: the call was deleted, or its record is final.

    With known etags: the record differs from them, or it is complete.
    """
    if call is None:
        return False
    if isinstance(call, Tombstone):
        return True
    if not poll.known_etags:
        return call.is_final
    if is_known(etag_of(call, poll.view), poll.known_etags):
        return call.data_status == DataStatus.COMPLETE
    return True
