"""The HTTP under the fake Kestra: reads requests, has them answered, writes answers, each on a connection of its own."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.support.multipart import Part, parts_of


class Request(NamedTuple):
    method: str
    path: str
    """As it was sent, still quoted."""
    query: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] | None = ()
    """None for a body that is not multipart."""
    authorization: str | None = None
    traceparent: str | None = None


class Answer(NamedTuple):
    status: int
    body: object = None
    """JSON; bytes go as they are; None for an empty body; a function gives them bit by bit."""
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


def message(text: str) -> dict[str, object]:
    """The body of an error."""
    return {"message": text, "_embedded": {"errors": [{"message": text}]}}


Serve = Callable[[Request], Answer | None]
"""None closes the connection without an answer."""


class KestraServer:
    def __init__(self, serve: Serve, tls: ssl.SSLContext | None) -> None:
        self._server = _Server(serve)
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for error in self._server.errors:
            raise error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, serve: Serve) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.serve = serve
        self.errors: list[BaseException] = []

    def handle_error(self, *_: object) -> None:
        """A client that went away is not worth a line; everything else is raised when the server stops."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        answer = self.server.serve(self._request())
        if answer is None:
            return
        body = answer.body() if callable(answer.body) else [_bytes_of(answer.body)]
        headers = {"content-type": "application/json", "connection": "close"} | answer.headers
        if answer.status != 204 and isinstance(body, list):
            headers["content-length"] = str(len(body[0]))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in body:
            self.wfile.write(chunk)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def _request(self) -> Request:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        query = tuple(parse_qsl(url.query, keep_blank_values=True))
        content_type = self.headers.get("content-type")
        parts: tuple[Part, ...] | None = ()
        if content_type is not None or body:
            is_multipart = content_type is not None and content_type.startswith("multipart/form-data")
            parts = parts_of(content_type or "", body) if is_multipart else None
        return Request(
            self.command, url.path, query, parts, self.headers.get("authorization"), self.headers.get("traceparent")
        )


def _bytes_of(body: object) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()
