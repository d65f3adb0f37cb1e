"""A real redis-server on a free port, started, hung, killed and stopped by the tests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

START_S = 10.0


def free_port() -> int:
    """From above where the system hands out its own: one of those may be somebody's before the server has it."""
    while True:
        port = random.randint(61_000, 65_500)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def free_cluster_port() -> int:
    """A Cluster node also listens 10,000 ports higher; both are taken from below where the system hands out its own."""
    while True:
        port = random.randint(12_000, 22_000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


class RedisProcess:
    """One redis-server without persistence, unless ``arguments`` say otherwise."""

    def __init__(
        self,
        *arguments: str,
        port: int | None = None,
        folder: Path | None = None,
        command: list[str] | None = None,
        password: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self.password = password
        if password is not None:
            arguments += ("--requirepass", password)
        self._folder = folder or Path(tempfile.mkdtemp(prefix="redis-test-"))
        self._command = command or [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder),
            "--save", "", "--appendonly", "no", "--daemonize", "no", *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        log = (self._folder / "redis.log").open("ab")
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64):
                        return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"redis-server did not start: {(self._folder / 'redis.log').read_text()}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Hang: connections stay open, nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.send_signal(number)
        self._process.wait(timeout=10)
        self._process = None
