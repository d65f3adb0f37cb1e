"""A TCP server on loopback that leaves no connection open when it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TalkingServer:
    """Has each connection talked with, and cuts those that are left at its end.

    ``asyncio.start_server`` alone forgets a connection whose talk is cancelled, or has not begun, when the event loop ends:
    its socket is closed by the collector of garbage, in the middle of some later test, which fails by the warning.
    """

    def __init__(self, talk: Talk, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._talk = talk
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def open(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for _ in range(3):  # turns, in which a connection that was just taken comes to be known
            await asyncio.sleep(0)
        talks = [*self._talks]
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets a turn after they are told to

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(self._talk(reader, writer))
        self._talks[talk] = writer
        talk.add_done_callback(self._forget)

    def _forget(self, talk: asyncio.Task[None]) -> None:
        """The connection ends with the talk, in good order if its own end was good."""
        writer = self._talks.pop(talk)
        error = None if talk.cancelled() else talk.exception()
        if talk.cancelled() or error is not None:
            writer.transport.abort()
        else:
            writer.close()
        if error is not None and not isinstance(error, ConnectionError | asyncio.IncompleteReadError):
            asyncio.get_running_loop().call_exception_handler({"message": "a fake is broken", "exception": error})
