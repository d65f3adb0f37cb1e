"""A TCP proxy before a redis-server that passes everything on, but later."""

from __future__ import annotations

import asyncio
from typing import Self


class SlowProxy:
    """Delays commands and replies; both delays may be changed at any time and hold for what arrives from then on.

    ``commands_s`` and ``replies_s`` are the delays of each direction, in seconds.
    """

    def __init__(self, redis_port: int) -> None:
        self.commands_s = 0.0
        self.replies_s = 0.0
        self._redis_port = redis_port
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in self._transports:
            transport.abort()  # type: ignore[attr-defined]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        both = {writer.transport, to_redis.transport}
        self._transports |= both
        try:
            await asyncio.gather(
                self._pass_on(reader, to_redis, of_replies=False), self._pass_on(from_redis, writer, of_replies=True)
            )
        except (ConnectionError, asyncio.CancelledError):
            pass  # one side went away: so does the other
        finally:
            self._transports -= both
            for transport in both:
                transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_replies: bool) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while chunk := await reader.read(1 << 20):
            # Never before the chunk in front of it, also where the delay was shortened meanwhile.
            due = max(due, loop.time() + (self.replies_s if of_replies else self.commands_s))
            if due <= loop.time():
                writer.write(chunk)
            else:
                loop.call_at(due, writer.write, chunk)
        raise ConnectionResetError
