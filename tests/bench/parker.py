"""Parks long polls and notes when each is answered; a process of its own, because a process has so many files only.

    python -m tests.bench.parker PORT FIRST COUNT [--same ID] [--streams]

Polls calls FIRST to FIRST+COUNT-1 (call_id), or the one named. Prints ``parked``, then for each answer a line: number,
status, and the moment of its first byte by the clock that all processes of a machine share. Ends with its standard input.
With ``--streams`` it opens streams of the calls' events, and the answer is the first event after the one at the beginning.
"""

from __future__ import annotations

import argparse
import gc
import resource
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.bench.servers import ROOT

CONNECT_S = 30.0
PER_S = 500
"""New polls a second, of each process: all at once would measure how long a stampede takes, not what parked polls cost."""

WAIT_S = 600


def call_id(number: int) -> str:
    return f"bench-wake-{number}"


def poll_of(call: str) -> bytes:
    line = f"GET /api/v1/vapi/calls/{call}?wait={WAIT_S}&view=summary HTTP/1.1"
    return f"{line}\r\nHost: localhost\r\n\r\n".encode()


def stream_of(call: str) -> bytes:
    line = f"GET /api/v1/vapi/calls/{call}/events?view=summary HTTP/1.1"
    return f"{line}\r\nHost: localhost\r\n\r\n".encode()


HEARTBEAT = b"3\r\n:\n\n\r\n"
"""As it comes in a chunk of its own."""


@dataclass(frozen=True)
class Answer:
    status: int
    moment: float


class Parker:
    """The other side of it: starts the process and reads what it noted."""

    def __init__(self, port: int, first: int, count: int, *options: str) -> None:
        command = [sys.executable, "-m", "tests.bench.parker", str(port), str(first), str(count), *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait_until_parked(self) -> None:
        """All its polls are sent.

        Raises:
            RuntimeError: they could not be.
        """
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "parked":
            self._process.kill()
            raise RuntimeError("the polls could not be parked; see above")

    def end(self) -> dict[int, Answer]:
        """All answers so far, by number; the connections are closed."""
        noted, _ = self._process.communicate(timeout=60)
        lines = [line.split() for line in noted.splitlines()]
        return {int(number): Answer(int(status), float(moment)) for number, status, moment in lines}

    def close(self) -> None:
        """End the process where it has not ended yet."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def raise_file_limit() -> int:
    """As far as we are allowed; how many files that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("port", "first", "count"):
        parser.add_argument(name, type=int)
    parser.add_argument("--same")
    parser.add_argument("--streams", action="store_true")
    chosen = parser.parse_args()
    raise_file_limit()
    poll = select.epoll()
    parked: dict[int, tuple[int, socket.socket]] = {}
    began = time.perf_counter()
    for turn, number in enumerate(range(chosen.first, chosen.first + chosen.count)):
        time.sleep(max(0.0, began + turn / PER_S - time.perf_counter()))
        connection = socket.create_connection(("127.0.0.1", chosen.port), timeout=CONNECT_S)
        connection.sendall((stream_of if chosen.streams else poll_of)(chosen.same or call_id(number)))
        if chosen.streams:
            read_beginning(connection)
        poll.register(connection.fileno(), select.EPOLLIN)
        parked[connection.fileno()] = (number, connection)
    gc.freeze()
    print("parked", flush=True)
    note_answers(poll, parked)


def read_beginning(connection: socket.socket) -> None:
    """The head and the first event."""
    got = b""
    while not (b"\ndata: " in got and got.endswith(b"\n\n\r\n")):
        more = connection.recv(4096)
        assert more, got
        got += more


def note_answers(poll: select.epoll, parked: dict[int, tuple[int, socket.socket]]) -> None:
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    answered: list[tuple[int, float, bytes]] = []
    while True:
        events = poll.poll()
        for file, _ in events:
            if file == sys.stdin.fileno():
                for number, moment, head in answered:
                    print(number, status_of(head), f"{moment:.6f}")
                return
            number, connection = parked[file]
            moment, head = time.perf_counter(), connection.recv(64)
            if head == HEARTBEAT:
                continue
            del parked[file]
            poll.unregister(file)
            answered.append((number, moment, head))
            connection.close()


def status_of(head: bytes) -> int:
    """That of an answer; 200 for an event, 0 where the connection was closed."""
    if b"event: call" in head:
        return 200
    return int(head.split(b" ")[1]) if head.startswith(b"HTTP/") else 0


if __name__ == "__main__":
    main()
