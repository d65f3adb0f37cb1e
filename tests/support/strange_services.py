"""What may stand at the service's address in its place: somebody else, or a proxy that passes on only half of it."""

from __future__ import annotations

import contextlib
import ssl
import threading
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from tests.support.eventually import PATIENCE_S


class _Handler(BaseHTTPRequestHandler, ABC):
    def do_POST(self) -> None:
        status, headers, body = self.answer()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = do_POST  # noqa: N815 - the names that http.server looks for

    @abstractmethod
    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def stranger(
    status: int, body: bytes = b"<html>", *, tls: ssl.SSLContext | None = None, **headers: str
) -> Iterator[tuple[str, list[str]]]:
    """Answers everything like this; gives its address, and the paths of all requests."""
    seen: list[str] = []

    class Stranger(_Handler):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            self.read()
            seen.append(self.path)
            return status, headers, body

    with _serving(Stranger, tls) as url:
        yield url, seen


@contextlib.contextmanager
def half_a_proxy(behind: str) -> Iterator[str]:
    """Passes POST on to that base URL; whatever else comes is never answered."""
    is_over = threading.Event()

    class Proxy(_Handler):
        kept: ClassVar = ("content-type", "authorization", "x-vapi-secret")

        def answer(self) -> tuple[int, dict[str, str], bytes]:
            if self.command != "POST":
                is_over.wait(PATIENCE_S)
                return 504, {}, b""
            headers = {name: self.headers[name] for name in self.kept if name in self.headers}
            request = urllib.request.Request(behind + self.path, self.read(), headers)
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, {}, answer.read()

    with _serving(Proxy, None) as url:
        try:
            yield url
        finally:
            is_over.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients go away here on purpose."""


@contextlib.contextmanager
def _serving(handler: type[_Handler], tls: ssl.SSLContext | None) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
