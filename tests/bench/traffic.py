"""What callers do to a replica all day, mixed: webhooks of all kinds, polls, parked polls, deletes, nonsense."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.bench.bed import ADMIN
from tests.bench.peers import SECRET, TOKEN
from tests.support.vapi_sender import SAMPLE_CALL_ID, sample_bytes, sample_names

CONNECTIONS: Final = 32
"""Each does one thing after the other; parked polls come on top, on connections of their own."""

RECENT_CALLS: Final = 300
PARKED_AT_MOST: Final = 200
ANSWER_S: Final = 20.0

EXPECTED: Final = {
    "webhook": {200},
    "odd webhook": {400, 401, 429},
    "poll": {200, 404},
    "unchanged": {200, 304, 404},
    "parked poll": {200, 202, 404},
    "abandoned poll": {0},
    "delete": {200, 404},
    "by phone": {200},
    "stats": {200},
    "health": {200},
    "metrics": {200},
}
WEIGHTS: Final = {
    "webhook": 60, "odd webhook": 2, "poll": 20, "unchanged": 5, "parked poll": 5, "abandoned poll": 2, "delete": 2,
    "by phone": 1, "stats": 1, "health": 1, "metrics": 1,
}  # fmt: skip


@dataclass
class Counts:
    done: Counter[str] = field(default_factory=Counter)
    surprises: Counter[str] = field(default_factory=Counter)
    """Answers that do not belong to what was asked, and requests without one."""


class Traffic:
    """At so many actions a second, on calls that come up, are spoken of for a while and are forgotten."""

    def __init__(self, port: int, per_second: float) -> None:
        self.tally = Counts()
        self._port = port
        self._pause_s = CONNECTIONS / per_second
        self._bodies = [sample_bytes(name) for name in sample_names()]
        self._calls: deque[str] = deque(maxlen=RECENT_CALLS)
        self._etags: deque[tuple[str, bytes]] = deque(maxlen=RECENT_CALLS)
        self._random = random.Random(7)
        self._made = 0
        self._parked: set[asyncio.Task[None]] = set()
        self._acts: dict[str, Callable[[], Awaitable[None]]] = {}

    async def run(self, seconds: float) -> None:
        """Returns when all is over, parked polls too."""
        for _ in range(20):
            self._new_call()
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._work(number, seconds))
        if self._parked:
            await asyncio.wait(self._parked)

    async def _work(self, number: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        turn = loop.time() + self._pause_s * number / CONNECTIONS
        connection = Connection(self._port)
        while turn < until:
            await asyncio.sleep(max(0.0, turn - loop.time()))
            turn = max(turn + self._pause_s, loop.time() - 1)
            kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            if kind in ("parked poll", "abandoned poll"):
                self._park(kind)
            else:
                await self._do(kind, connection)
        connection.close()

    async def _do(self, kind: str, connection: Connection) -> None:
        request = self._request(kind)
        try:
            async with asyncio.timeout(ANSWER_S):
                status, head = await connection.exchange(request)
        except (OSError, EOFError, TimeoutError) as exc:
            connection.close()
            self._note(kind, None, type(exc).__name__)
            return
        self._note(kind, status)
        if kind == "poll" and b"etag: " in head:
            self._etags.append((self._polled, head.partition(b"etag: ")[2].partition(b"\r\n")[0]))

    def _note(self, kind: str, status: int | None, what: str = "") -> None:
        self.tally.done[kind] += 1
        if status not in EXPECTED[kind]:
            self.tally.surprises[f"{kind}: {what or status}"] += 1

    def _park(self, kind: str) -> None:
        if len(self._parked) < PARKED_AT_MOST:
            task = asyncio.create_task(self._poll_parked(kind))
            self._parked.add(task)
            task.add_done_callback(self._parked.discard)

    async def _poll_parked(self, kind: str) -> None:
        wait_s = self._random.choice((1, 3, 8))
        request = _request("GET", f"/api/v1/vapi/calls/{self._call()}?wait={wait_s}", TOKEN)
        connection = Connection(self._port)
        status: int | None = None
        try:
            async with asyncio.timeout(0.5 if kind == "abandoned poll" else ANSWER_S):
                status, _ = await connection.exchange(request)
        except TimeoutError:
            status = 0
        except (OSError, EOFError) as exc:
            self._note(kind, None, type(exc).__name__)
            return
        finally:
            connection.close()
        self._note(kind, 0 if kind == "abandoned poll" else status)

    def _call(self) -> str:
        return self._random.choice(self._calls)

    def _new_call(self) -> str:
        self._made += 1
        call = f"soak-{self._made:09}"
        self._calls.append(call)
        return call

    def _request(self, kind: str) -> bytes:
        if kind == "webhook":
            return self._webhook()
        if kind == "odd webhook":
            return self._odd_webhook()
        if kind == "poll":
            self._polled = self._call()
            view = self._random.choice(("full", "summary"))
            return _request("GET", f"/api/v1/vapi/calls/{self._polled}?view={view}", TOKEN)
        if kind == "unchanged":
            call, etag = self._random.choice(self._etags) if self._etags else (self._call(), b'"none"')
            return _request("GET", f"/api/v1/vapi/calls/{call}", TOKEN, f"If-None-Match: {etag.decode()}\r\n")
        paths = {
            "delete": f"/api/v1/vapi/calls/{self._call()}",
            "by phone": "/api/v1/vapi/calls/by-phone/+18645550123?limit=5",
            "stats": "/api/v1/vapi/cache/stats",
            "health": "/health",
            "metrics": "/metrics",
        }
        return _request("DELETE" if kind == "delete" else "GET", paths[kind], ADMIN)

    def _webhook(self) -> bytes:
        call = self._new_call() if self._random.random() < 0.2 else self._call()
        phone = f"+1864556{self._made % 10_000:04}"
        body = self._random.choice(self._bodies).replace(SAMPLE_CALL_ID.encode(), call.encode())
        return _webhook(body.replace(b"+18645550123", phone.encode()), SECRET)

    def _odd_webhook(self) -> bytes:
        wrong = json.dumps({"message": {"type": 7}}).encode()
        return self._random.choice((_webhook(b"{", SECRET), _webhook(wrong, SECRET), _webhook(b"{}", "wrong secret")))


def _webhook(body: bytes, secret: str) -> bytes:
    head = f"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: bench\r\nX-Vapi-Secret: {secret}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _request(method: str, path: str, token: str, headers: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{headers}\r\n".encode()


class Connection:
    """Opened when it is needed, and again after it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """The status and the head, in lower case; the body is read and dropped."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ")[1])
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if status != 304:
            await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return status, head

    def close(self) -> None:
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].close()
            self._streams = None
