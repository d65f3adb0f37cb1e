"""A TCP proxy before a redis-server, or any other server, that passes everything on, but later.

``python -m tests.support.slow_proxy <port of Redis>`` runs one: it prints its own port, then reads the two delays, in
seconds, from each line of its standard input, and prints an empty line once they hold.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.eventually import PATIENCE_S
from tests.support.talking_server import TalkingServer

ROOT = Path(__file__).resolve().parents[2]


class SlowProxyProcess:
    """A SlowProxy in a process of its own, for tests that send much: their own event loop would make it slower still."""

    def __init__(self, redis_port: int) -> None:
        command = [sys.executable, "-m", "tests.support.slow_proxy", str(redis_port)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.port = int(self._line())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def delay(self, *, commands_s: float = 0.0, replies_s: float = 0.0) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{commands_s} {replies_s}\n")
        self._line()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE_S)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class SlowProxy:
    """Delays commands and replies; both delays may be changed at any time and hold for what arrives from then on.

    ``commands_s`` and ``replies_s`` are the delays of each direction, in seconds.
    """

    def __init__(self, redis_port: int) -> None:
        self.commands_s = 0.0
        self.replies_s = 0.0
        self.may_reply = asyncio.Event()
        """While it is not set, no reply is passed on."""
        self.may_reply.set()
        self.edit: Callable[[bytes], bytes] = bytes
        """What becomes of Redis's replies; for small ones, which arrive in one piece."""
        self._redis_port = redis_port
        self._server = TalkingServer(self._talk)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self._server.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends, with both connections, as soon as one side went away."""
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, to_redis, of_replies=False))
                both.create_task(self._pass_on(from_redis, writer, of_replies=True))
        except* ConnectionError:
            writer.transport.abort()
        finally:
            to_redis.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_replies: bool) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while chunk := await reader.read(1 << 20):
            if of_replies:
                await self.may_reply.wait()
            # Never before the chunk in front of it, also where the delay was shortened meanwhile.
            due = max(due, loop.time() + (self.replies_s if of_replies else self.commands_s))
            if due <= loop.time():
                writer.write(self.edit(chunk) if of_replies else chunk)
            else:
                loop.call_at(due, writer.write, self.edit(chunk) if of_replies else chunk)
        raise ConnectionResetError


async def serve(redis_port: int) -> None:
    """Until standard input ends, as it does when whoever started this process is gone."""
    loop = asyncio.get_running_loop()
    async with SlowProxy(redis_port) as proxy:
        print(proxy.port, flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            proxy.commands_s, proxy.replies_s = map(float, line.split())
            print(flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
