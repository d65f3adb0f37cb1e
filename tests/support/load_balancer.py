"""A real HAProxy with the configuration that we ship, on a free port, in front of whatever listens at two addresses."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.ports import free_port
from tests.support.replica import ROOT
from tests.support.talking_server import TalkingServer

CONFIGURATION = ROOT / "deploy" / "haproxy.cfg"


class LoadBalancer:
    """HAProxy between callers and the two ports. It listens as soon as it has started, whether or not they do.

    ``settings`` are further variables of its environment. It may open no more than ``max_files``, two for a connection.
    """

    def __init__(self, port_a: int, port_b: int, *, max_files: int | None = None, **settings: str) -> None:
        self.port = free_port()
        self._max_files = max_files
        self._environment = {
            **settings,
            "LISTEN": f"127.0.0.1:{self.port}",
            "REPLICA_A": f"127.0.0.1:{port_a}",
            "REPLICA_B": f"127.0.0.1:{port_b}",
        }
        self._log = Path(tempfile.mkdtemp(prefix="haproxy-test-")) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def is_using(self, name: str) -> bool:
        """Whether it takes the replica (``a`` or ``b``) for ready, by its latest word on it."""
        said = re.findall(rf"Server replicas/{name} is (UP|DOWN)", self.log)
        return not said or said[-1] == "UP"

    def repeated(self) -> list[str]:
        """The log lines of requests that were sent, or tried to be sent, more than once."""
        return [line for line in self.log.splitlines() if re.search(r"(/\d+){3}/\+?[1-9]\d*$", line)]

    def start(self) -> Self:
        command = [haproxy(), "-f", str(CONFIGURATION), "-db"]
        if self._max_files is not None:
            command = ["sh", "-c", f'ulimit -n {self._max_files}; exec "$@"', "sh", *command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        try:
            eventually_sync(self._listens)
        except TimeoutError:
            raise RuntimeError(f"HAProxy did not start:\n{self.log}") from None
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"HAProxy did not start:\n{self.log}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM: it closes everything at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE_S)
            self._process = None


def haproxy() -> str:
    """Where the program is; Debian keeps it where only root looks."""
    found = shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise FileNotFoundError("haproxy is not installed; make test gets it")
    return found


class FakeReplica:
    """Answers checks as told, and takes every other request down; hangs up on it, or answers 200 or as told.

    ``asked`` holds the heads of those requests, ``checks`` is the number of checks answered.
    """

    def __init__(self, *, ready: int = 200, answers: int | None = 200) -> None:
        self.asked: list[str] = []
        self.checks = 0
        self._ready = ready
        self._answers = answers
        self._server = TalkingServer(self._serve)

    @property
    def port(self) -> int:
        return self._server.port

    async def __aenter__(self) -> Self:
        await self._server.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        if head.startswith("GET /health/ready "):
            self.checks += 1
            status: int | None = self._ready
        else:
            self.asked.append(head)
            status = self._answers
        if status is not None:
            writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            await writer.drain()
