"""Kestra's own engine as a process: fetched, compiled, started with the shipped flows, and stopped by the tests."""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.support.replica import ROOT

HERE = Path(__file__).parent
FLOWS = ROOT / "deploy" / "kestra"
NAMESPACE = "ai_concierge"
ACCOUNT = ("tests@example.com", "Secret-1")
WORKER_THREADS = 16
START_S = 90.0
MISSING = 3
"""What get_engine.sh ends with where Java, Maven or Maven Central is not there."""

OPENED = ("java.nio", "java.util", "java.lang")


class EngineMissingError(Exception):
    """This machine cannot run the engine; the message says what is missing."""


class Engine:
    """One JVM with executor, worker and scheduler, and the REST routes of that version before them."""

    def __init__(self, version: str, *, secrets: Mapping[str, str], flows: Path = FLOWS) -> None:
        self.version = version
        self._java = get_java(version)
        self._flows = flows
        self._secrets = {f"SECRET_{name}": b64encode(value.encode()).decode() for name, value in secrets.items()}
        self._folder = Path(tempfile.mkdtemp(prefix="kestra-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def url(self) -> str:
        assert self._port is not None
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        cache = ROOT / ".cache" / f"kestra-{self.version}"
        command = [
            self._java, "-Xmx1g", "-XX:+UseSerialGC", *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED),
            "-cp", f"{cache / 'classes'}:{(cache / 'classpath').read_text()}",
            "Engine", self.version, str(self._folder), str(self._flows), str(WORKER_THREADS),
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "ENGINE_ACCOUNT": ":".join(ACCOUNT), **self._secrets}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._port = self._wait_until_ready(self._process)
        return self

    def stop(self) -> None:
        """It ends with its standard input."""
        if self._process is not None:
            process, self._process = self._process, None
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def connect(self) -> httpx2.AsyncClient:
        """A client with this engine's address and account."""
        return httpx2.AsyncClient(base_url=self.url, auth=ACCOUNT, timeout=20)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> int:
        """Its other output on the way, which nobody needs, is read and dropped, also later."""
        assert process.stdout is not None
        output = process.stdout
        ready: queue.Queue[int] = queue.Queue()

        def read() -> None:
            for line in output:
                if line.startswith(b"READY "):
                    ready.put(int(line.split()[1]))

        threading.Thread(target=read, name="engine-output", daemon=True).start()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                return ready.get(timeout=0.2)
            except queue.Empty:
                continue
        process.kill()
        process.wait()
        raise RuntimeError(f"Kestra's engine {self.version} did not start:\n{self.log[-4000:]}")


def get_java(version: str) -> str:
    """The java that runs this version, which is fetched and compiled if it is not here yet.

    Raises:
        EngineMissingError: it cannot be had on this machine.
    """
    got = subprocess.run([HERE / "get_engine.sh", version], check=False, capture_output=True, text=True, timeout=400)
    if got.returncode == MISSING:
        raise EngineMissingError(got.stderr.strip())
    if got.returncode != 0:
        raise RuntimeError(f"the engine's sources do not compile:\n{got.stderr}")
    return got.stdout.strip()


def texts_of(log: list[dict[str, Any]]) -> str:
    """The messages of an execution's log, one per line."""
    return "\n".join(entry["message"] or "" for entry in log)
