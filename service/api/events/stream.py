"""An answer that goes on: server-sent events with heartbeats and an end, as a plain ASGI stream."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from starlette.types import Message, Scope, Send

from service.api.poll_request import read_wait_s
from service.errors import UnavailableError
from service.event_format import HEARTBEAT, render_retry
from service.metrics.process import Metrics

HEARTBEAT_S: Final = 15.0
"""A comment comes after this time without an event: less than half of what common load balancers and browsers wait."""

LONGEST_S: Final = 3600.0
"""A stream ends after an hour, and its client comes back: tokens may have changed, and replicas may be new."""

MAX_STREAMS: Final = 10_000
"""Of one process. At 20 kB each they hold 200 MB, whoever opens them."""

SLICE_BYTES: Final = 64 * 1024
"""Larger events are sent in pieces of this size. Each waits until the client has taken the one before, so the bytes of
a large record are shared by all streams that send it, and copied piece by piece."""

RETRY_MS: Final = 1000
"""After how long EventSource comes back."""

CONTENT_TYPE: Final = b"text/event-stream"

UNBUFFERED: Final = (b"x-accel-buffering", b"no")
"""Makes nginx pass on every event as it comes."""


class EventStreams:
    """How many streams this process has open."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._count = 0

    def add(self) -> None:
        """Raises UnavailableError when there are MAX_STREAMS."""
        if self._count >= MAX_STREAMS:
            raise UnavailableError("Too many event streams are open; try again in a second")
        self._count += 1
        self._metrics.streams_open = self._count

    def remove(self) -> None:
        self._count -= 1
        self._metrics.streams_open = self._count


class EventStream:
    """One stream. Enter it before anything is read for it: that raises UnavailableError when there are MAX_STREAMS.

    Written by hand, because sse-starlette has a task for heartbeats, one for the client and one for the server's end in
    every stream. Measured with 3,000 parked streams of a bare application on Python 3.11: sse-starlette 3.7.0 takes
    35 kB and 5 tasks for each, this way takes 12 kB and 2 tasks. Here heartbeats come from the timer of the wait.
    """

    __slots__ = ("_beats_at", "_ends_at", "_loop", "_send", "_streams")

    def __init__(self, streams: EventStreams, send: Send, longest_s: float) -> None:
        self._streams = streams
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + longest_s
        self._beats_at = 0.0

    def __enter__(self) -> Self:
        self._streams.add()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._streams.remove()

    @property
    def is_expired(self) -> bool:
        return self._loop.time() >= self._ends_at

    @property
    def idle_until(self) -> float:
        """When a heartbeat is due, or the end (loop time)."""
        return min(self._beats_at, self._ends_at)

    async def start(self) -> None:
        """Send the head, and how soon EventSource is to come back. Clients know from them that the stream is open."""
        await self._send(_head())
        await self.send(render_retry(RETRY_MS))

    async def refuse(self) -> None:
        """Instead of starting: a 204, after which EventSource does not come back."""
        await self._send({"type": "http.response.start", "status": 204, "headers": []})
        await self._send({"type": "http.response.body", "body": b""})

    async def send(self, events: bytes) -> None:
        """Returns when the client has room for more."""
        for begin in range(0, len(events), SLICE_BYTES):
            piece = events if len(events) <= SLICE_BYTES else events[begin : begin + SLICE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._beats_at = self._loop.time() + HEARTBEAT_S

    async def beat_if_due(self) -> bool:
        """Whether a heartbeat was due, which was sent then."""
        is_due = self._loop.time() >= self._beats_at
        if is_due:
            await self.send(HEARTBEAT)
        return is_due

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


def longest_of(scope: Scope) -> float:
    """Seconds after which a stream ends: an hour, or ``wait`` if that is less. Raises InvalidRequestError."""
    asked_s = read_wait_s(scope)
    return LONGEST_S if asked_s is None else min(asked_s, LONGEST_S)


async def answer_head(send: Send) -> None:
    """HEAD: what the stream's head would be, and no stream."""
    await send(_head())
    await send({"type": "http.response.body", "body": b""})


def _head() -> Message:
    headers = [(b"content-type", CONTENT_TYPE), UNBUFFERED]
    return {"type": "http.response.start", "status": 200, "headers": headers}
