"""A small HTTP server on loopback, in a thread of its own, that can be made to misbehave. Beneath the fake VAPI."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.talking_server import TalkingServer

STOP_S: Final = 60.0
"""Only so that a test ends whose fake does not."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Request:
    """A request as it was read: header names in lower case, path and query unquoted."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    target: str = ""
    """Path and query as they were sent."""

    @property
    def json(self) -> Any:
        """None where the body is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Reply:
    """What goes back; a body that is no bytes goes as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self, *, is_head: bool) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-type": "application/json; charset=utf-8", "content-length": str(len(body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if is_head else body)


class Silence(Enum):
    """What may happen in place of a reply, after the request was read."""

    HANG = auto()
    BREAK = auto()
    CUT = auto()
    """Half of the reply, then the end of the connection."""


@dataclass(frozen=True)
class Conduct:
    """How the next request is met: with this reply or silence in place of the right answer."""

    instead: Reply | Silence
    takes_effect: bool
    """True: what was asked for happens all the same, and only the answer is lost."""
    method: str | None
    """Only the next request of this method; None: of any."""


class LoopbackServer:
    """Answers with what ``answer`` returns, which runs in the server's thread. Connections are kept alive."""

    def __init__(self, answer: Callable[[Request], Reply], *, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        """Chosen at the first start, kept ever after."""
        self.delay_s = 0.0
        self.received: list[Request] = []
        self.conducts: list[Conduct] = []
        self._answer = answer
        self._tls = tls
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-server", daemon=True)
        self._server: TalkingServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def stop(self) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()

    def listen(self) -> None:
        """Take connections, at the port of the first time."""
        self._server = self._run(TalkingServer(self._accept, port=self.port, tls=self._tls).open())
        self.port = self._server.port

    def go_away(self) -> None:
        """Refuse connections from now on, and cut those that are there."""
        if self._server is not None:
            self._run(self._server.close())

    @contextmanager
    def holding_answers(self) -> Iterator[Callable[[], object]]:
        """Requests take effect meanwhile, and answers wait for the end, or until the given function lets them go."""

        def let_go() -> None:
            self._may_answer.set()
            self._may_answer.clear()

        self._loop.call_soon_threadsafe(self._may_answer.clear)
        try:
            yield lambda: self._loop.call_soon_threadsafe(let_go)
        finally:
            self._loop.call_soon_threadsafe(self._may_answer.set)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while await self._serve_one(reader, writer):
                pass

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        self.received.append(request)
        conduct = self._take_conduct(request)
        right = self._answer_safely(request) if conduct is None or conduct.takes_effect else Reply(500)
        given = right if conduct is None else conduct.instead
        await self._may_answer.wait()
        await asyncio.sleep(self.delay_s)
        if given is Silence.HANG:
            await reader.read()  # until the other side gives up
        if given in (Silence.HANG, Silence.BREAK):
            return False
        reply = right if isinstance(given, Silence) else given
        octets = reply.encoded(is_head=request.method == "HEAD")
        writer.write(octets[: len(octets) // 2] if given is Silence.CUT else octets)
        await writer.drain()
        return given is not Silence.CUT

    def _answer_safely(self, request: Request) -> Reply:
        try:
            return self._answer(request)
        except Exception:  # noqa: BLE001 - a fake that is broken should say so
            return Reply(500, {"message": traceback.format_exc(), "error": "the fake is broken", "statusCode": 500})

    def _take_conduct(self, request: Request) -> Conduct | None:
        for place, conduct in enumerate(self.conducts):
            if conduct.method in (None, request.method):
                return self.conducts.pop(place)
        return None


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Raises asyncio.IncompleteReadError when the connection ends before the request does."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body, target)
