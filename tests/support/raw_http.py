"""HTTP written and read byte by byte, for requests that no client library would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.support.eventually import PATIENCE_S

ANSWER_S: Final = PATIENCE_S
"""Only so that a failing test ends."""


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """One connection to a replica."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    @property
    def is_over(self) -> bool:
        """Whether the other side has closed or reset it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Send without waiting until it has left."""
        self._writer.write(data)

    async def send_until_refused(self, chunk: bytes, times: int) -> int:
        """Send a chunk again and again until the other side closes; returns how often it went out."""
        for sent in range(times):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self.send(chunk)
                    await asyncio.sleep(0)  # lets whoever waits for the answer read it
            except (ConnectionError, TimeoutError):
                return sent
        return times

    async def answer(self, within_s: float = ANSWER_S) -> RawAnswer:
        """The next answer. Raises IncompleteReadError when the connection closes without one."""
        async with asyncio.timeout(within_s):
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            answer = RawAnswer(int(first.split()[1]), headers, b"")
            length = int(answer.header("content-length") or 0)
            return RawAnswer(answer.status, headers, await self._reader.readexactly(length))

    async def is_closed(self, within_s: float = ANSWER_S) -> bool:
        """True when the other side closes in time; what still arrives before is dropped."""
        try:
            async with asyncio.timeout(within_s):
                while await self._reader.read(65_536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


class KeptConnections:
    """To one replica, as many as requests are under way at once; a tenth of what an HTTP client's library costs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[RawConnection] = []

    async def ask(self, request: bytes, within_s: float = ANSWER_S) -> RawAnswer:
        """Raises OSError or IncompleteReadError when there is no answer."""
        connection = await self._take()
        try:
            await connection.send(request)
            answer = await connection.answer(within_s)
        except BaseException:
            connection.abort()
            raise
        if answer.header("connection") == "close":
            connection.abort()
        else:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        for connection in self._free:
            connection.abort()

    async def _take(self) -> RawConnection:
        while self._free:
            connection = self._free.pop()
            if not connection.is_over:
                return connection
            connection.abort()
        return await RawConnection.open(self._port)


async def ask(port: int, request: bytes, within_s: float = ANSWER_S) -> RawAnswer:
    """The answer to one request on a connection of its own."""
    async with await RawConnection.open(port) as connection:
        await connection.send(request)
        return await connection.answer(within_s)


def get(target: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: localhost", *headers, b"", b""))


def post(body: bytes, *headers: bytes, target: bytes = b"/api/v1/vapi/webhook") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((b"POST %b HTTP/1.1" % target, b"Host: localhost", length, *headers, b"", body))
