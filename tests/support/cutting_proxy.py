"""A TCP proxy before a redis-server that cuts a connection in the middle of a reply, when told to."""

from __future__ import annotations

import asyncio
from typing import Self

from service.store.lua import load_script
from tests.support.talking_server import TalkingServer


class CuttingProxy:
    """Passes everything on; the next reply to a command that was named is cut, with its connection.

    ``cuts`` is the number of connections cut.
    """

    def __init__(self, redis_port: int) -> None:
        self.cuts = 0
        self._redis_port = redis_port
        self._marks: dict[bytes, int] = {}
        self._is_lasting = False
        self._server = TalkingServer(self._talk)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.port}/0"

    async def __aenter__(self) -> Self:
        await self._server.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def cut_replies_to(self, command: str, after_bytes: int = 0, *, is_lasting: bool = False) -> None:
        """Once, the replies to the next batch with that command, or with the script of that name that changes a record.

        ``is_lasting``: to every such batch, until ``heal``.
        """
        mark = load_script(command).sha if command.endswith(".lua") else command.encode()
        self._marks[mark] = after_bytes
        self._is_lasting = is_lasting

    def heal(self) -> None:
        self._marks.clear()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        cut_after: list[int] = []

        async def pass_commands() -> None:
            while chunk := await reader.read(1 << 20):
                for mark in [mark for mark in self._marks if mark in chunk]:
                    cut_after.append(self._marks[mark])
                    if not self._is_lasting:
                        del self._marks[mark]
                to_redis.write(chunk)

        async def pass_replies() -> None:
            while chunk := await from_redis.read(1 << 20):
                if cut_after:
                    writer.write(chunk[: cut_after[0]])
                    await writer.drain()
                    self.cuts += 1
                    return
                writer.write(chunk)

        ways = [asyncio.ensure_future(pass_commands()), asyncio.ensure_future(pass_replies())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_redis.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
