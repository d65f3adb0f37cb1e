"""``GET /api/v1/vapi/calls/{call_id}/events``: the call as it changes, until its record is final."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import Receive, Scope, Send

from service.api.auth import Access
from service.api.events.stream import EventStream, answer_head, longest_of
from service.api.poll_request import read_call_id, read_view
from service.api.responses import SHARED_ABOVE_BYTES, SharedBody
from service.api.state import State
from service.api.watched_call import Call, WatchedCall, without_facts
from service.calls.record import View, etag_of, render_pending, render_record
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import UnavailableError
from service.event_format import render_event

ROUTE: Final = "/api/v1/vapi/calls/{call_id}/events"

_BEFORE_ID, _AFTER_ID = ROUTE.split("{call_id}")

GONE: Final = b"gone"
"""The id of the last event of a call that was deleted."""

_NO_ROOM: Final = SharedBody(b"")
"""Sent instead of a large record while clients that do not read hold too many. The stream ends, and its client comes back."""


class CallEvents:
    """The endpoint as a plain ASGI application, like Polling: streams are as many as parked polls, and last longer."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = ROUTE
        self._state.tokens.verify(scope, Access.READ)
        call_id = read_call_id(scope["path"][len(_BEFORE_ID) : -len(_AFTER_ID)])
        view, longest_s = read_view(scope), longest_of(scope)
        scope["log"]["call_id"] = call_id.decode()
        if scope["method"] == "HEAD":
            await answer_head(send)
            return
        scope["log"]["wait_s"] = longest_s
        known: bytes = scope["named_headers"].get(b"last-event-id", b"")
        watched = WatchedCall(self._state, call_id, view, receive)
        with EventStream(self._state.streams, send, longest_s) as stream, watched:
            await self._follow(stream, watched, known)

    async def _follow(self, stream: EventStream, watched: WatchedCall, known: bytes | None) -> None:
        """Send the call whenever it is another than the client knows, until that was the last time."""
        call = await watched.first_read()
        if is_last(call) and _id_of(call, watched.view) == known:
            await stream.refuse()
            return
        await stream.start()
        while True:
            is_final, event_id = is_last(call), _id_of(call, watched.view)
            event = self._event_of(watched, call) if event_id != known else None
            call, known = without_facts(call), event_id
            if event is not None:
                await self._send_event(stream, event, watched.notified_at)
                del event
            if is_final or watched.is_over or stream.is_expired:
                break
            if await stream.beat_if_due():
                call = await watched.ask_archive_again(call)
            else:
                call = await watched.next_read(call, stream.idle_until, reads_at_end=False)
        await stream.end()

    def _event_of(self, watched: WatchedCall, call: Call) -> SharedBody:
        """The event that shows the call. Streams that send the same large record share its bytes."""
        call_id, view = watched.call_id, watched.view
        if isinstance(call, Tombstone):
            return SharedBody(render_event(b"gone", b'{"call_id":"%b"}' % call_id, GONE))
        if call is None or not is_last(call):
            return SharedBody(render_event(b"call", render_pending(call_id, call), _id_of(call, view)))
        etag = etag_of(call, view)
        key = (b"event", call_id, etag, call.expires_at_ms)
        if shared := self._state.large_bodies.find(key):
            return shared
        content = render_event(b"call", render_record(call, view), etag)
        if len(content) <= SHARED_ABOVE_BYTES:
            return SharedBody(content)
        try:
            return self._state.large_bodies.keep(key, content)
        except UnavailableError:
            return _NO_ROOM

    async def _send_event(self, stream: EventStream, event: SharedBody, notified_at: float | None) -> None:
        if len(event.content) > SHARED_ABOVE_BYTES:
            await self._state.large_bodies.wait_for_turn()
        self._state.metrics.events_sent("one_call", bool(event.content))
        if notified_at is not None:
            self._state.metrics.event_latency.add(time.perf_counter() - notified_at)
        await stream.send(event.content)


def is_last(call: Call) -> bool:
    """Whether nothing will follow: the record is final, or the call was deleted or is unknown to VAPI."""
    if isinstance(call, StoredCall):
        return call.is_final
    return call is not None


def _id_of(call: Call, view: View) -> bytes | None:
    """The id of the event that shows the call like this; None for a call nobody has heard of."""
    if isinstance(call, StoredCall):
        return etag_of(call, view)
    return None if call is None else GONE
