"""Sends requests at a constant rate, whatever becomes of the answers; a process of its own.

    python -m tests.bench.generator PORT TEMPLATE --rate 1000 --seconds 5 [--ring 10000] [--start 0] [--run 1]
        [--connections 256]

A request is sent when it is due, not when an answer has come, and is measured from the moment it was due: where no
connection is free it waits, and that wait counts (no coordinated omission). TEMPLATE is as for wrk/load.lua. Prints one
line of JSON, an Outcome.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.sections import quantile

PATIENCE_S = 10.0
"""After the last request was due; what has no answer by then counts as an error."""

MAX_SELECT_S = 0.05
FIRST_TIMESTAMP_MS = 1_788_264_000_000
"""As in wrk/load.lua."""


@dataclass(frozen=True)
class Outcome:
    """Times are milliseconds, each from the moment when its request was due."""

    answered: int
    errors: int
    """Answers other than 200, and requests without one."""
    p50: float
    p99: float
    p99_9: float
    worst: float
    late_p99: float
    """How late the generator itself sent what a connection was free for: what is below this is its own doing."""
    busy: float
    """Share of a core that the generator needed; near 1 it was the limit."""


class Requests:
    """The template, filled for one call of the ring after another."""

    def __init__(self, template: bytes, ring: int, run: int) -> None:
        self._ring, self._run = ring, run
        self._parts = re.split(rb"@([CPTN])@", template)
        self._slots = list(enumerate(self._parts))[1::2]

    def fill(self, number: int) -> bytes:
        call = number % self._ring
        values = {
            b"C": b"%05d" % call,
            b"P": b"%04d" % (call % 10_000),
            b"T": b"%d" % (FIRST_TIMESTAMP_MS + self._run * 10_000_000 + number),
            b"N": b"%04d%04d" % (self._run, number // self._ring),
        }
        for index, name in self._slots:
            self._parts[index] = values[name]
        return b"".join(self._parts)


class Connection:
    """One socket with one request under way at most."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        self.due = 0.0
        self._received = b""

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The whole answer, or None where more of it is to come.

        Raises:
            ConnectionError: the server closed.
        """
        some = self.socket.recv(1 << 18)
        if not some:
            raise ConnectionError
        self._received += some
        head_ends = self._received.find(b"\r\n\r\n")
        if head_ends < 0:
            return None
        head = self._received[:head_ends].lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(self._received) < head_ends + 4 + int(length or 0):
            return None
        answer, self._received = self._received, b""
        return answer


class Generator:
    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._errors = 0
        self._free_since = 0.0
        """Since when a request that is due could have been sent."""
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        connection = Connection(self._port)
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._open[connection.socket.fileno()] = connection
        self._free.append(connection)

    def run(self, fill: Callable[[int], bytes], rate: float, seconds: float, start: int = 0) -> Outcome:
        total, sent, used_s = int(rate * seconds), 0, time.process_time()
        began = time.perf_counter() + 0.05
        until = began + seconds + PATIENCE_S
        while (now := time.perf_counter()) < until and len(self._latencies) + self._errors < total:
            while sent < total and self._free and (due := began + sent / rate) <= now:
                self._late.append(now - max(due, self._free_since))
                self._send(fill(start + sent), due)
                sent += 1
                now = time.perf_counter()
            next_due = began + sent / rate if sent < total and self._free else now + MAX_SELECT_S
            # An epoll object can itself be waited for by select, whose timeout is not rounded to milliseconds.
            select.select([self._poll], [], [], min(MAX_SELECT_S, max(0.0, next_due - now)))
            for number, _ in self._poll.poll(0):
                self._receive(number)
        return self._outcome(total, (time.process_time() - used_s) / seconds)

    def close(self) -> None:
        self._poll.close()
        for connection in self._open.values():
            connection.socket.close()

    def _send(self, request: bytes, due: float) -> None:
        connection = self._free.popleft()
        try:
            connection.send(request, due)
        except OSError:
            self._replace(connection)

    def _receive(self, number: int) -> None:
        connection = self._open[number]
        try:
            answer = connection.receive()
        except OSError:
            self._replace(connection)
            return
        if answer is None:
            return
        if answer.startswith(b"HTTP/1.1 200"):
            self._latencies.append(time.perf_counter() - connection.due)
        else:
            self._errors += 1
        if not self._free:
            self._free_since = time.perf_counter()
        self._free.append(connection)

    def _replace(self, connection: Connection) -> None:
        self._errors += 1
        self._poll.unregister(connection.socket.fileno())
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        if connection in self._free:
            self._free.remove(connection)
        self._connect()

    def _outcome(self, total: int, busy: float) -> Outcome:
        latencies = [1000 * latency for latency in self._latencies] or [float("inf")]
        return Outcome(
            answered=len(self._latencies),
            errors=total - len(self._latencies),
            p50=quantile(latencies, 50),
            p99=quantile(latencies, 99),
            p99_9=quantile(latencies, 99.9),
            worst=max(latencies),
            late_p99=1000 * quantile(self._late or [0.0], 99),
            busy=busy,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("template", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=256)
    for name, default in (("ring", 10_000), ("start", 0), ("run", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    requests = Requests(chosen.template.read_bytes(), chosen.ring, chosen.run)
    gc.disable()
    generator = Generator(chosen.port, chosen.connections)
    outcome = generator.run(requests.fill, chosen.rate, chosen.seconds, chosen.start)
    generator.close()
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
