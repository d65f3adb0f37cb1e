"""A server that speaks Redis's protocol and answers commands with whatever a test says."""

from __future__ import annotations

import asyncio
from typing import Self

import hiredis

FINE = b"+OK\r\n"


class AnsweringRedis:
    """Answers every command with ``answer``, those in ``fine`` (names in capitals) with OK; both may change at any time."""

    def __init__(self) -> None:
        self.answer = FINE
        self.fine: frozenset[bytes] = frozenset()
        self.late_s = 0.0
        """How long every answer takes."""
        self.asked: set[bytes] = set()
        """Names of all commands that came."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        parser = hiredis.Reader()
        try:
            while chunk := await reader.read(65_536):
                parser.feed(chunk)
                while (command := parser.gets()) is not False:
                    name = command[0].upper()
                    self.asked.add(name)
                    await asyncio.sleep(self.late_s)
                    writer.write(FINE if name in self.fine else self.answer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
