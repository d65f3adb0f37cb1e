"""How HTTP is read: uvicorn's protocol with the deadlines and bounds it lacks."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.headers import by_name, request_id_of
from service.request_cycle import OneWriteCycle

HEADERS_DEADLINE_S: Final = 10.0
BODY_DEADLINE_S: Final = 30.0
MAX_HEADER_BYTES: Final = 64 * 1024

_NO_UPGRADE: Final = b'{"success":false,"error":"Upgrade is not supported for a request with a body"}'

_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)

_TOO_LARGE: Final = b'{"success":false,"error":"The request\'s headers are larger than %d bytes"}' % MAX_HEADER_BYTES


class BoundedProtocol(HttpToolsProtocol):
    """Cuts senders that take too long, answers 431 to heads that are too large; ASGI is not called before their end.

    What uvicorn does for each request and we never need is left out: upgrades, limits of its own, a timer set and taken
    back between any two requests.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._in_body = False
        self._has_begun = False
        self._bytes_since_body = 0
        self._has_head_in_read = False
        self._is_counted = True
        self._answering: RequestResponseCycle | None = None
        self._idle_since: float | None = None
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_DEADLINE_S, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        if self._answering is not None and self._answering is not self.cycle:
            # uvicorn tells only the last of pipelined requests, while the first is the one under way.
            self._answering.disconnected = True
            self._answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            data = _without_upgrade(data)
        else:
            self._bytes_since_body += len(data)
        self._has_head_in_read = False
        super().data_received(data)
        if self._in_body and self._bytes_since_body > MAX_HEADER_BYTES:
            self._cut()  # trailers, or a chunk's extension: the parser would keep them all
        elif self._in_head and self._head_bytes > MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
        elif self._deadline is None and not self.transport.is_closing():
            if self._in_body:
                self._deadline = self.loop.call_later(BODY_DEADLINE_S, self._cut)
            elif self._has_begun:
                self._deadline = self.loop.call_later(HEADERS_DEADLINE_S, self._cut)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._has_begun = True
        self._in_head = True
        self._is_counted = not self._has_head_in_read  # pipelined, it came with the head before it

    def on_headers_complete(self) -> None:
        self._cancel_deadline()
        self._in_head = False
        self._in_body = True
        self._bytes_since_body = 0
        self._has_head_in_read = True
        may_be_large = self._head_bytes > MAX_HEADER_BYTES or not self._is_counted
        if may_be_large and self._size_of_head() > MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            return
        if self.parser.should_upgrade() and self._announces_body():
            # The parser takes what follows for another protocol: a body would be lost, or read as a request.
            self._refuse(b"400 Bad Request", _NO_UPGRADE)
            return
        self._head_bytes = 0
        self._queue_request()
        self.headers = []  # for trailers, which nobody asks for

    def _queue_request(self) -> None:
        """Have the application answer, at once or behind the requests before it on this connection."""
        version = self.parser.get_http_version()
        before = self.cycle
        self.cycle = OneWriteCycle(
            scope=self._scope(version),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _scope(self, version: str) -> Any:
        """https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope"""
        raw_path, _, query = self.url.partition(b"?")
        if raw_path[:1] != b"/":  # https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
            target = httptools.parse_url(self.url)
            raw_path, query = target.path or b"/", target.query or b""
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": self.app_state.copy(),
        }

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """The one timer of a connection: it looks since when nothing has come, and waits for the rest of the time."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self._close_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_body(self, body: bytes) -> None:
        self._bytes_since_body = 0
        cycle = self.cycle
        if self.transport.is_closing() or cycle.response_complete:
            return
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]  # most bodies come in one piece, which uvicorn would copy twice
        else:
            cycle.body = bytearray(cycle.body) if isinstance(cycle.body, bytes) else cycle.body
            cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._cancel_deadline()
        self._in_body = False
        self._in_head = True
        self._has_begun = False
        if not self.transport.is_closing():
            super().on_message_complete()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _announces_body(self) -> bool:
        headers = by_name(self.headers)
        return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    def _refuse(self, status: bytes, body: bytes) -> None:
        """Answer a head that the application does not get to see, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # Pipelined behind a request that is still being answered: that one's answer is the last.
            self.cycle.keep_alive = False
            return
        head = (
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
            b"x-request-id: %b\r\nconnection: close\r\n\r\n"
        ) % (status, len(body), request_id_of(by_name(self.headers)))
        self.transport.writelines((head, body))
        self.transport.close()

    def _cut(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _without_upgrade(data: bytes) -> bytes:
    """The same head with its ``Upgrade`` renamed: we speak HTTP/1.1, but the parser would stop reading there.

    Java's HTTP client asks for h2c with every first request, also with one that has a body.
    """
    end = data.find(b"\r\n\r\n")
    if b"\r\nupgrade" not in data[:end].lower() or _UPGRADE.search(data, 0, end) is None:
        return data
    return _UPGRADE.sub(b"\r\nX-Upgrade:", data, count=1)
