"""Writes log lines without ever holding up or failing whoever logs, whatever became of the file descriptor."""

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
"""How long lines wait for one another: a system call per line costs more than the line."""

MAX_WAITING_BYTES: Final = 3 * 1024 * 1024
"""As if all lines that wait were as long as the newest. Beyond, lines are left out and counted."""

LINE_BYTES: Final = 300
"""A usual line; so 10,000 of them may wait, a second of lines at full load, but only 300 tracebacks of 10 kB."""

LAST_LINES_S: Final = 0.5
"""How long the end of the process waits for lines that are not written yet."""


class LogWriter(io.RawIOBase):
    """Takes one line (or several) a call and writes it in a thread of its own.

    A pipe that nobody reads would block the event loop for ever, a full disk or a reader that went away would fail the
    request that logs. O_NONBLOCK is no way out: it is a property of the terminal or pipe, which other programs share.
    What a killed process had not written, at most GATHER_S of lines, is gone with it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lines_lost = 0
        """Since the start of the process: there was no room left for them here, or they could not be written."""
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
        line = bytes(data)
        if len(self._waiting) * max(len(line), LINE_BYTES) < MAX_WAITING_BYTES:
            self._waiting.append(line)
        else:
            self.lines_lost += 1
        return len(line)

    def close(self) -> None:
        """Nothing: a text layer closes what is below it when it is dropped, and others write on."""

    def flush(self) -> None:
        if not self._has_lines.is_set():
            self._has_lines.set()

    def drain(self, within_s: float = LAST_LINES_S) -> None:
        """Wait until everything is written, as far as that takes no longer than this."""
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
        """Write whole lines; where an earlier one broke off, they begin on a line of their own."""
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
            except BlockingIOError:  # whoever shares the pipe made it non-blocking
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        room.poll()


_writers: Final[dict[int, LogWriter]] = {}
"""One for each descriptor of the process, as the descriptors themselves are the process's."""


def writer_to(descriptor: int) -> LogWriter:
    if descriptor not in _writers:
        _writers[descriptor] = LogWriter(descriptor)
        atexit.register(_writers[descriptor].drain)
    return _writers[descriptor]


def drain_logs() -> None:
    """For the end of a process that a signal may end before its exit handlers run."""
    for writer in _writers.values():
        writer.drain()


def count_lines_lost() -> int:
    """How many lines this process could not write since its start."""
    return sum(writer.lines_lost for writer in _writers.values())
