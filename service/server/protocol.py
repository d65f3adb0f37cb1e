"""Reads HTTP: uvicorn's protocol with the deadlines and limits it lacks.

The file is long because every method works on the state of one connection. What needs little of that has files of its
own: request_size, deadline, connections, request_target, request_cycle.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import InvalidRequestError, ServiceError, UnavailableError
from service.server.connections import Connections, Queue
from service.server.deadline import Deadline
from service.server.request_cycle import HeldFlow, Refusal, new_cycle
from service.server.request_size import Phase, RequestSize
from service.server.request_target import head_without_offer, in_origin_form

HEADERS_DEADLINE_S: Final = 10.0
BODY_DEADLINE_S: Final = 30.0
"""Senders in use take milliseconds. A slower one would keep a connection and memory from them."""

UNTAKEN_DEADLINE_S: Final = 30.0
"""How long a client may read nothing of an answer that waits for it."""

UNCHARGED_HEAD_BYTES: Final = 8 * 1024
"""Only larger heads count, from their first byte to the answer. Heads of honest clients are smaller."""

HELD_BYTES: Final = 8 * 1024
"""While more than this waits unparsed, we stop reading from the connection."""

WAITING_REQUEST_BYTES: Final = 4 * 1024
"""Approximate memory of a parsed request that waits."""

DROPPED_BYTES: Final = 1024 * 1024
"""How much a refused sender may still send before the connection is cut."""


class BoundedProtocol(HttpToolsProtocol):
    """Limits what one client can make us hold, and for how long. The application is called after the end of a head.

    Input is parsed in pieces that end where a request may end. While a request waits for an earlier answer, or an
    answer for its client, the rest of the input stays unparsed and reading stops.

    Every state has a deadline, except while the application works. A head has 10 s from its first byte; the first head,
    from the start of the connection. A body has 30 s. A client that sends nothing has the keep-alive, and one that
    reads nothing of its answer has 30 s. uvicorn has only the keep-alive timeout, and a single byte cancels it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: HeldFlow = HeldFlow(transport)
        if "connections" not in self.app_state:
            self.app_state["connections"] = Connections(self.app_state.get("on_connection_lost", lambda _: None))
        self._shared: Connections = self.app_state["connections"]
        self._size = RequestSize()
        self._charged_bytes = self._dropped_bytes = self._large_head_bytes = 0
        self._unread, self._parsed = b"", 0
        self.url, self.headers = b"", []
        self._is_refused = self._waits_for_reader = False
        self._timed: Phase = "start"
        """The part of the newest request whose deadline is set."""
        self._answering: RequestResponseCycle | None = None
        check_every_s = min(HEADERS_DEADLINE_S, self.timeout_keep_alive)
        self._deadline = Deadline(
            self.loop,
            transport,
            self.flow,
            self._abort_after_deadline,
            check_every_s=check_every_s,
            untaken_s=UNTAKEN_DEADLINE_S,
        )
        self._deadline.set(HEADERS_DEADLINE_S)
        descriptor = transport.get_extra_info("socket").fileno()
        if not self._shared.has_room_for(descriptor, len(self.connections)):
            self.app = Refusal(UnavailableError("Too many connections; try again in a second"))
            if self._shared.must_drop(descriptor):
                transport.abort()
        self._queue = self._shared.idle
        self._queue[self] = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._queue.pop(self, None)
        self._shared.charge(-self._charged_bytes - self._large_head_bytes)
        self._unread = b""
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._answering is not None and self._answering is not self.cycle:
            # uvicorn notifies only the newest pipelined request; tell the one being answered too.
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > DROPPED_BYTES:
                self.transport.abort()
            return
        self._unread = self._unread[self._parsed :] + data if self._unread else data
        self._parsed = 0
        self._parse_unread()

    def _parse_unread(self) -> None:
        unread, parsed = self._unread, self._parsed
        while parsed < len(unread) and not (self.pipeline or self._waits_for_reader or self._is_refused):
            end = self._size.count_piece(unread, parsed)
            parsed += self._parse(unread if end - parsed == len(unread) else unread[parsed:end])
        if self._is_refused or parsed >= len(unread):
            unread, parsed = b"", 0
        self._unread, self._parsed = unread, parsed
        if unread or self.pipeline or self._size.phase != "start" or self._charged_bytes or self.flow.is_held:
            self._limit_waiting_input()

    def _limit_waiting_input(self) -> None:
        """Limit what waits besides the request being answered: its time, its memory, and what is read after it."""
        flow, phase = self.flow, self._size.phase
        flow.is_held = self._waits_for_reader or len(self._unread) - self._parsed > HELD_BYTES
        if flow.is_held:
            flow.pause_reading()
        elif self.pipeline:
            flow.resume_reading()  # otherwise we would not notice that the client of a parked poll leaves
        if phase != self._timed and not (self._is_refused or self.pipeline):
            self._timed = phase
            if phase == "head":
                if self._answering is not None:  # the first head has the deadline that was set with the connection
                    self._deadline.set(HEADERS_DEADLINE_S)
            elif phase == "body":
                self._deadline.set(BODY_DEADLINE_S)
        if phase != "start" or self.pipeline:
            self._join_closable()
        self._charge()

    def _parse(self, piece: bytes) -> int:
        """Returns how many bytes of the piece were consumed."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offer:
            head = head_without_offer(self.parser, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)  # an offer with "close" ends the old parser
            head_bytes, self._size = self._size.head_bytes, RequestSize()
            self._size.head_bytes = head_bytes
            self._parse(head)
            return int(offer.args[0])
        except httptools.HttpParserError as exc:
            cause = exc.__context__
            self._refuse(cause if isinstance(cause, ServiceError) else InvalidRequestError("This is not valid HTTP"))
        else:
            is_unfinished = self._size.phase == "body" or self._size.head_bytes
            if is_unfinished and (error := self._size.find_error(self.url, self.headers)):
                self._refuse(error)
        return len(piece)

    def on_message_begin(self) -> None:
        self._begin_head()
        self._size.phase, self._timed = "head", "start"

    def _begin_head(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if error := self._size.find_error(self.url, self.headers):
            raise error
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise InvalidRequestError("CONNECT is not supported")
            return
        if self.url[:1] != b"/" or b"#" in self.url:
            self.url, self.headers = in_origin_form(self.url, self.headers)
        if self._size.head_bytes > UNCHARGED_HEAD_BYTES:
            self._hold_large_head(self._size.head_bytes)
        self._queue_request()
        self._size.begin_body()
        if self.pipeline:
            self._deadline.clear()  # we do not read the body before its turn
        self.headers = []  # trailers are collected here; nobody uses them

    def _hold_large_head(self, size: int) -> None:
        """Count a head until its request is answered: a poll may be parked with it, a body may never come."""
        if not self._shared.charge(size):
            self._shared.charge(-size)
            raise UnavailableError("Too many large requests at once; try again in a second")
        self._large_head_bytes += size

    def _queue_request(self) -> None:
        """Start the application now, or after the earlier requests on this connection."""
        before, self.cycle = self.cycle, new_cycle(self)
        if before is None or before.response_complete:
            self._answering = self.cycle
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._size.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.headers = []  # drop trailers
        self._size.phase = "start"
        if self.cycle.response_complete:
            self._become_idle()
        else:
            self._deadline.clear()
            if not (self.flow.write_paused or self.pipeline):
                self._queue.pop(self, None)

    def on_response_complete(self) -> None:
        """Continue with the waiting input once the client has taken this answer."""
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._waits_for_reader = self.flow.is_held = True
            self.flow.pause_reading()
            return
        self.server_state.total_requests += 1
        if self.pipeline:
            self._answering, app = self.pipeline.pop()
            self._start_asgi_task(self._answering, app)
            if self._size.phase == "body" and not self.pipeline:
                self._timed = "body"
                self._deadline.set(BODY_DEADLINE_S)
            self._join_closable()
        elif self._size.phase == "start":
            self._become_idle()
        else:
            self._join_closable()
        if self._charged_bytes:
            self._parse_unread()
        self.flow.resume_reading()

    def _become_idle(self) -> None:
        """Wait for the next request. Thousands of idle connections must not keep the heads of their last ones."""
        self._deadline.set(self.timeout_keep_alive)
        self.url, self.cycle.scope = b"", {}  # type: ignore[typeddict-item]
        if self._large_head_bytes:
            self._shared.charge(-self._large_head_bytes)
            self._large_head_bytes = 0
        self._enter(self._shared.idle)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._join_closable()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._join_closable()
        if self._waits_for_reader:
            self._waits_for_reader = self.flow.is_held = False
            self.on_response_complete()

    def _join_closable(self) -> None:
        """Enter the queue of connections that may be closed when descriptors run short.

        It is in no queue while all it has sent is one whole request that is being answered. A client that sends more
        may never stop, and would always have a request under way.
        """
        shared, phase, answering = self._shared, self._size.phase, self._answering
        if self.flow.write_paused:
            queue = shared.unfinished
        elif answering is not None and not answering.response_complete:
            if not (answering.more_body or self.pipeline or self._unread):
                self._queue.pop(self, None)
                return
            queue = shared.unfinished
        elif phase == "start":
            queue = shared.idle
        else:
            queue = shared.half_heads if phase == "head" else shared.unfinished
        self._enter(queue)

    def _enter(self, queue: Queue) -> None:
        if queue is not self._queue:
            self._queue.pop(self, None)
            self._queue = queue
        if self not in queue:  # sending a little more does not move a connection back
            queue[self] = 0.0 if queue is self._shared.idle else time.monotonic()

    def _refuse(self, error: ServiceError) -> None:
        """Answer an invalid request with the error when its turn comes, then close. Later input is dropped."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        error.__traceback__ = None  # its frames lead back to this connection, which would be freed late
        self._deadline.clear()
        headers = self.cycle.scope["headers"] if self._size.phase == "body" else self.headers
        request_id = [header for header in headers if header[0] == b"x-request-id"]
        if self._size.phase == "body" and not self._withdraw(self.cycle):
            return
        self._begin_head()
        self.url, self.headers, self.app = b"/", request_id, Refusal(error)
        self._queue_request()
        self.cycle.keep_alive = False
        self.parser = None  # type: ignore[assignment]  # it may hold a header of 64 kB and is not used again

    def _withdraw(self, cycle: RequestResponseCycle) -> bool:
        """Take back a request whose body is invalid. False, and the connection is closed, when its answer has started."""
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        elif cycle.response_started:
            self.transport.close()
            return False
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self.cycle = None  # type: ignore[assignment]  # the state before the first request
        return True

    def _make_this_answer_the_last(self) -> None:
        """Read no further requests. The answer under way is the last."""
        self._is_refused = True
        self._deadline.clear()
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.keep_alive = False

    def _charge(self) -> None:
        """Count what this connection holds besides the request being answered; over the limit, refuse further input."""
        held = len(self._unread) + WAITING_REQUEST_BYTES * len(self.pipeline)
        if self._size.head_bytes > UNCHARGED_HEAD_BYTES:
            held += self._size.head_bytes
        if held == self._charged_bytes:
            return
        more, self._charged_bytes = held - self._charged_bytes, held
        if not self._shared.charge(more):
            self._unread, self._parsed = b"", 0
            if self._is_answering():
                self._make_this_answer_the_last()
            else:
                self._refuse(UnavailableError("Too many large requests at once; try again in a second"))

    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _abort_after_deadline(self) -> None:
        """Abort a connection past its deadline. An answer under way is sent first, unless a body is overdue."""
        if self._size.phase == "head" and self._is_answering():
            self._make_this_answer_the_last()
        elif self._size.phase != "start" or not self.transport.get_write_buffer_size():
            self.transport.abort()

    def give_way(self) -> None:
        """Close this connection, which has no whole request under way, for a newer one."""
        self.transport.abort()
