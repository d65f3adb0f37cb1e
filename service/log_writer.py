"""Writes log lines so that logging never blocks or fails, whatever the state of the file descriptor."""

from __future__ import annotations

import atexit
import io
import os
import select
import threading
import time
from collections import deque
from typing import Any, Final

GATHER_S: Final = 0.05
"""How long lines are collected before they are written. A system call per line costs more than the line."""

MAX_WAITING_BYTES: Final = 3 * 1024 * 1024
"""Limit for waiting lines, as if all were as long as the newest. Lines beyond it are dropped and counted."""

LINE_BYTES: Final = 300
"""A usual line. So 10,000 of them may wait, which is a second at full load, but only 300 tracebacks of 10 kB."""

LAST_LINES_S: Final = 0.5
"""How long the process waits at its end for lines that are not written yet."""


class LogWriter(io.RawIOBase):
    """Takes one or several lines per call and writes them in its own thread.

    In the event loop, a pipe that nobody reads would block it for ever. A full disk or a reader that went away would
    fail the request that logs. O_NONBLOCK does not help: it would change a terminal or pipe that others share.
    A killed process loses the lines it has not written, at most GATHER_S of them.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lines_lost = 0
        """Lines lost since the start of the process: there was no room for them, or they could not be written."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._has_lines = threading.Event()
        self._is_in_a_hurry = threading.Event()
        self._is_idle = True
        self._is_line_torn = False
        self._thread = threading.Thread(target=self._write_for_ever, name=f"log-{descriptor}", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        line = bytes(data)  # no copy where it is bytes
        if len(self._waiting) * max(len(line), LINE_BYTES) < MAX_WAITING_BYTES:
            self._waiting.append(line)
        else:
            self.lines_lost += 1
        if not self._has_lines.is_set():
            self._has_lines.set()
        return len(line)

    def close(self) -> None:
        """Do nothing. A dropped text layer closes what is below it, but others still write here."""

    def write_remaining(self, within_s: float = LAST_LINES_S) -> None:
        """Wait until all lines are written, for at most ``within_s``."""
        deadline = time.monotonic() + within_s
        self._is_in_a_hurry.set()
        self._has_lines.set()
        while (self._waiting or not self._is_idle) and time.monotonic() < deadline:
            time.sleep(0.002)
        self._is_in_a_hurry.clear()

    def _write_for_ever(self) -> None:
        while self._has_lines.wait():
            self._is_in_a_hurry.wait(GATHER_S)
            self._has_lines.clear()
            self._is_idle = False
            while self._waiting:
                lines = [self._waiting.popleft() for _ in range(min(len(self._waiting), 256))]
                self._write_all(b"".join(lines))
            self._is_idle = True

    def _write_all(self, data: bytes) -> None:
        """Write whole lines. If an earlier write stopped inside a line, start on a new line."""
        rest = memoryview(b"\n" + data if self._is_line_torn else data)
        try:
            while rest:
                written = self._write_some(rest)
                self._is_line_torn = rest[written - 1] != ord("\n")
                rest = rest[written:]
        except OSError:
            self.lines_lost += bytes(rest).count(b"\n")

    def _write_some(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program that shares the pipe made it non-blocking
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        room.poll()


_writers: Final[dict[int, LogWriter]] = {}
"""One writer per descriptor. It is global because descriptors belong to the process."""


def writer_to(descriptor: int) -> LogWriter:
    if descriptor not in _writers:
        _writers[descriptor] = LogWriter(descriptor)
        atexit.register(_writers[descriptor].write_remaining)
    return _writers[descriptor]


def write_remaining_lines() -> None:
    """Write all waiting lines. Called at the end, because a signal may end the process before its exit handlers run."""
    for writer in _writers.values():
        writer.write_remaining()


def count_lines_lost() -> int:
    """How many lines this process could not write since its start."""
    return sum(writer.lines_lost for writer in _writers.values())
