"""A server that speaks Redis's protocol and answers commands with whatever a test says."""

from __future__ import annotations

import asyncio
from typing import Self

import hiredis

from tests.support.talking_server import TalkingServer

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
        self._server = TalkingServer(self._talk)

    @property
    def port(self) -> int:
        return self._server.port

    async def __aenter__(self) -> Self:
        await self._server.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while chunk := await reader.read(65_536):
            parser.feed(chunk)
            while (command := parser.gets()) is not False:
                name = command[0].upper()
                self.asked.add(name)
                await asyncio.sleep(self.late_s)
                writer.write(FINE if name in self.fine else self.answer)
