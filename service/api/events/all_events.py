"""``GET /api/v1/vapi/events``: what changes, of any call, and the stats for admins. A view of now, not a log."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from service.api.auth import Access
from service.api.departure import watch_for_departure
from service.api.events.stream import EventStream, answer_head, longest_of
from service.api.responses import render_error
from service.api.state import State
from service.api.stats import DEFAULT_ENTRIES, collect_stats
from service.errors import ServiceError
from service.event_format import render_event
from service.jobs.change_feed import FeedReader
from service.jobs.change_log import Events

ROUTE: Final = "/api/v1/vapi/events"

STATS_EVERY_S: Final = 5.0


class AllEvents:
    """The endpoint as a plain ASGI application."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = ROUTE
        state, headers = self._state, scope["named_headers"]
        state.tokens.verify(scope, Access.READ)
        longest_s = longest_of(scope)
        if scope["method"] == "HEAD":
            await answer_head(send)
            return
        is_admin = state.tokens.access_of(headers) >= Access.ADMIN
        reader = FeedReader(state.change_feed, headers.get(b"last-event-id"), wants_stats=is_admin)
        scope["log"]["wait_s"] = longest_s
        with EventStream(state.streams, send, longest_s) as stream, reader:
            gone = watch_for_departure(receive, reader)
            try:
                await stream.start()
                await self._send(stream, reader.begin())
                while not (gone.done() or state.shutdown.has_begun or stream.is_expired):
                    if events := reader.read():
                        await self._send(stream, events)
                    else:
                        await stream.beat_if_due()
                        await reader.wait_until(stream.idle_until)
            finally:
                gone.cancel()
            await stream.end()

    async def _send(self, stream: EventStream, events: Events) -> None:
        self._state.metrics.events_sent("all_calls", events.count)
        await stream.send(events.text)


async def publish_stats(state: State) -> None:
    """Make the event that all streams of admins share, if there are any. It has the body of the stats route."""
    if not state.change_feed.wants_stats:
        return
    try:
        body = msgspec.json.encode({"success": True, "stats": await collect_stats(state, DEFAULT_ENTRIES)})
    except ServiceError as exc:
        _, body, _ = render_error(exc)
    state.change_feed.publish_stats(render_event(b"stats", body))
