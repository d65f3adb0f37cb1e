"""Senders that take longer than anybody may. Each dawdles in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

from tests.support.replica import Replica

GIVE_UP_S: Final = {"head": 40.0, "body": 80.0}
"""How long a sender of each kind goes on. Only a sender that is never cut comes to that."""

DRIBBLE_EVERY_S: Final = 0.5

HEAD: Final = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n"
CHUNKED_HEAD: Final = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
PIPELINED: Final = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\nGET /health/live HTTP/1.1\r\nHost: te"

OPENINGS: Final = {
    "silent": b"",
    "head": HEAD,
    "dribbled head": HEAD + b"X-Slow: ",
    "head after an answer": b"",
    "pipelined head": PIPELINED,
    "refused body": HEAD.replace(b"1000000", b"1000000000") + b"\r\n",
    "body": HEAD + b"\r\n",
    "dribbled body": HEAD + b"\r\n",
    "dribbled line breaks": b"",
    "dribbled trailer of a body": CHUNKED_HEAD + b"0\r\nX-Slow: ",
}
"""What each sender sends at once. The dribbling ones then go on with one byte at a time."""


class SlowSenders:
    """One connection per kind of slowness; ``cut_after_s`` says when the replica closed it."""

    def __init__(self) -> None:
        self.replica = Replica(log_level="warning", allow_unauthenticated="1").start()
        self._cut_after_s: dict[str, float] = {}
        self._is_over = threading.Event()
        self._threads = {name: threading.Thread(target=self._dawdle, args=(name,), daemon=True) for name in OPENINGS}
        for thread in self._threads.values():
            thread.start()

    def cut_after_s(self, name: str) -> float | None:
        """Seconds from its beginning until the sender was cut, None if it never was."""
        self._threads[name].join(2 * _give_up_s(name))
        return self._cut_after_s.get(name)

    def close(self) -> None:
        """The senders leave first: the replica would wait for them as for any sender whose body is under way."""
        self._is_over.set()
        for thread in self._threads.values():
            thread.join()
        self.replica.stop()

    def _dawdle(self, name: str) -> None:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.replica.port)) as connection:
            connection.settimeout(DRIBBLE_EVERY_S)
            if name == "head after an answer":
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
                connection.recv(65_536)
                connection.sendall(HEAD)
            else:
                connection.sendall(OPENINGS[name])
            while time.monotonic() - started < _give_up_s(name) and not self._is_over.is_set():
                drop = b"\r\n" if name.endswith("breaks") else b"x" if name.startswith("dribbled") else b""
                if _is_closed(connection, drop):
                    self._cut_after_s[name] = time.monotonic() - started
                    return


def _give_up_s(name: str) -> float:
    return GIVE_UP_S["body" if name.endswith("body") else "head"]


def _is_closed(connection: socket.socket, drop: bytes) -> bool:
    """Look for half a second whether the other side has closed."""
    try:
        if drop:
            connection.sendall(drop)
        return connection.recv(65_536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
