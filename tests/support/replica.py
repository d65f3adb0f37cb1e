"""One replica of the service as a real process (with its workers), and what a test may do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import deque
from pathlib import Path
from typing import ClassVar, Self

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.ports import free_port
from tests.support.warm_service import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
START_S = PATIENCE_S

CANCELS = "timeout graceful shutdown exceeded"
"""What uvicorn says when it gives up requests that are under way."""

SETTINGS_OF_TESTS = {"HOST": "127.0.0.1", "LOG_FORMAT": "json", "DRAIN_S": "0.2"}
"""On top of the defaults, unless a test says otherwise: nobody wants to wait three seconds for each replica to drain."""


class Replica:
    """A service process. Keyword arguments are environment variables, in upper case or lower.

    ``from_nothing=True`` has Python started and the service imported for it; else it is forked, which takes a fifth of the
    time. Several workers are always started so.
    """

    latest: ClassVar[deque[Self]] = deque(maxlen=4)
    """Those that were launched last; the report of a test that fails shows their logs."""

    def __init__(self, **settings: object) -> None:
        from_nothing = bool(settings.pop("from_nothing", False))
        self.port = free_port()
        self._settings = {**SETTINGS_OF_TESTS, "PORT": str(self.port)}
        self._settings |= {name.upper(): str(value) for name, value in settings.items()}
        self._log = Path(tempfile.mkdtemp(prefix="replica-test-")) / "log"
        self._starts_from_nothing = from_nothing or self._settings.get("WORKERS", "1") != "1"
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it wrote; empty when the folder is gone, as it is when a fixture of the session fails at its end."""
        return self._log.read_text() if self._log.exists() else ""

    def launch(self) -> Self:
        """Start without waiting until it serves."""
        inherited = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
            if name in os.environ
        }
        environment = {**inherited, "TMPDIR": tempfile.gettempdir(), **self._settings}
        with self._log.open("ab") as log:
            if self._starts_from_nothing:
                command = [sys.executable, "-m", "service"]
                self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            else:
                self._process = WarmProcess([], environment, stdout=log.fileno(), stderr=log.fileno())
        self.latest.append(self)
        return self

    def start(self) -> Self:
        return self.launch().wait_until_served()

    def wait_until_served(self) -> Self:
        try:
            eventually_sync(self._is_live)
        except TimeoutError:
            raise RuntimeError(f"the service did not start:\n{self.log}") from None
        return self

    def _is_live(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the service did not start:\n{self.log}")
        try:
            with urllib.request.urlopen(self.url + "/health/live", timeout=START_S):
                return True
        except OSError:
            return False

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise

    def kill(self) -> None:
        """SIGKILL of the process that was started (with several workers: of their supervisor)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
