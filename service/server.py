"""Serves the application with uvicorn: what uvicorn lacks (deadlines for receiving, a bound on headers), and workers."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import re
import resource
import secrets
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors.multiprocess import Multiprocess

from service.app import REPLICA_ID_VARIABLE
from service.config import Settings
from service.headers import by_name, request_id_of

HEADERS_DEADLINE_S: Final = 10.0
BODY_DEADLINE_S: Final = 30.0
MAX_HEADER_BYTES: Final = 64 * 1024

KEEP_ALIVE_S: Final = 75
"""Longer than common load balancers keep idle connections (60 s), so that they close them, not we under a request."""

GRACEFUL_S: Final = 5
"""For requests in flight after ``DRAIN_S``; together below the 10 s after which orchestrators kill."""

BACKLOG: Final = 4096
"""Thousands of pollers may come back at once."""

YOUNG_OBJECTS: Final = 50_000

PR_SET_PDEATHSIG: Final = 1

_NO_UPGRADE: Final = b'{"success":false,"error":"Upgrade is not supported for a request with a body"}'

_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)

_TOO_LARGE: Final = b'{"success":false,"error":"The request\'s headers are larger than %d bytes"}' % MAX_HEADER_BYTES


class BoundedProtocol(HttpToolsProtocol):
    """Cuts senders that take too long, answers 431 to heads that are too large; ASGI is not called before their end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._in_body = False
        self._has_begun = False
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(HEADERS_DEADLINE_S, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            data = _without_upgrade(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
        elif self._deadline is None and not self.transport.is_closing():
            if self._in_body:
                self._deadline = self.loop.call_later(BODY_DEADLINE_S, self._cut)
            elif self._has_begun:
                self._deadline = self.loop.call_later(HEADERS_DEADLINE_S, self._cut)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._cancel_deadline()
        self._in_head = False
        self._in_body = True
        if self._head_bytes > MAX_HEADER_BYTES and self._size_of_head() > MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _TOO_LARGE)
            return
        if self.parser.should_upgrade() and self._announces_body():
            # The parser takes what follows for another protocol: a body would be lost, or read as a request.
            self._refuse(b"400 Bad Request", _NO_UPGRADE)
            return
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

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
        self.transport.write(head + body)
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
    if _UPGRADE.search(data, 0, data.find(b"\r\n\r\n")) is None:
        return data
    return _UPGRADE.sub(b"\r\nX-Upgrade:", data, count=1)


class Workers(Multiprocess):
    """uvicorn's supervisor, which looks at signals twice a second: ours passes SIGTERM on at once."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        signal.signal(signal.SIGTERM, self._forward)

    def _forward(self, number: int, _: FrameType | None) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, number)
        self.signal_queue.append(number)


def serve(settings: Settings) -> int:
    """Run until told to stop; returns the exit status."""
    raise_file_limit()
    os.environ.setdefault(REPLICA_ID_VARIABLE, f"{socket.gethostname()}-{secrets.token_hex(3)}")
    options: dict[str, Any] = {
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "http": BoundedProtocol,
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # api/client_address.py knows, and is asked only when it matters
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": GRACEFUL_S,
        "backlog": BACKLOG,
    }
    if settings.workers == 1:
        # uvicorn raises the signal that ended it once more when it is done: a stop that was asked for is a success.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server = uvicorn.Server(uvicorn.Config("service.server:app_of_environment", **options))
        server.run()
        return 0 if server.started else 1
    with tempfile.TemporaryDirectory(prefix="vapi-cache-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        config = uvicorn.Config("service.server:app_of_environment", **options)
        Workers(config, [config.bind_socket()]).run()
    return 0


def app_of_environment() -> Any:
    """What each process serves; settings come from the environment, once more in every worker."""
    from service.app import create_app
    from service.config import load_settings
    from service.log import configure_logs

    settings = load_settings(os.environ)
    configure_logs(settings)
    if settings.workers > 1:
        end_with_parent()
    app = create_app(settings)
    collect_less_often()
    return app


def collect_less_often() -> None:
    """Leave what lives as long as the process to itself, and look for cycles among the rest seldom.

    Requests leave none behind; by default the collector would still walk every object young enough many times a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def end_with_parent() -> None:
    """Have the kernel send us SIGTERM when the supervisor dies: orphans would hold the port against its successor.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html; Linux only, elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def raise_file_limit() -> None:
    """A parked poll is an open file: take as many as we are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
