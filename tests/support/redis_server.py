"""A real redis-server on a free port, started, hung, killed and stopped by the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.ports import free_cluster_port, free_port

__all__ = ["RedisProcess", "free_cluster_port", "free_port"]

ANSWERS_WITHIN_S = 10.0
"""A living Redis answers our questions sooner, however busy the machine."""

END_S = 20.0
"""How long it may take to end by itself. One that waits for its replicas may take 10 s."""

SURVIVES_KILL = ("--appendonly", "yes", "--appendfsync", "no")
"""Arguments of one that has everything again after SIGKILL. It writes its log before it answers; an fsync would only help
against a crash of the machine, and takes half a second on a busy disk."""


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
        self.is_paused = False
        self.client = redis.Redis(
            port=self.port, password=password, socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=ANSWERS_WITHIN_S, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        """For the tests' own questions. It is kept: a client for each of them costs thirty times what the question does."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        log = (self._folder / "redis.log").open("ab")
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()
        try:
            eventually_sync(self._answers)
        except TimeoutError:
            raise RuntimeError(f"redis-server did not start: {self._log()}") from None
        return self

    def _answers(self) -> bool:
        """Whether our own process answers: one that found its port taken has ended, and somebody else might answer."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"redis-server did not start: {self._log()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
                connection.sendall(b"PING\r\n")
                return bool(connection.recv(64))
        except OSError:
            return False

    def _log(self) -> str:
        return (self._folder / "redis.log").read_text()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Lose everything that is on the disk, while it is not running."""
        for left in self._folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.suffix == ".rdb":
                left.unlink()

    def pause(self) -> None:
        """Hang: connections stay open, nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self.is_paused = False

    def _end(self, number: signal.Signals) -> None:
        self.client.close()
        if self._process is None:
            return
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.send_signal(number)
        try:
            self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process, self.is_paused = None, False
