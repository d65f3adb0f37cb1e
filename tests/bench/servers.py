"""Processes of a comparison: started on a core of their own, asked what they cost, stopped."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.redis_server import free_port

ROOT = Path(__file__).resolve().parents[2]
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]
"""Of wrk and Redis; the server's own where there is only one."""

ENDS_WITH_ITS_STARTER = ("setpriv", "--pdeathsig", "TERM")
"""Before a command: it gets SIGTERM when the process that started it ends, even by SIGKILL. No server outlives a benchmark."""

START_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def pinned(core: int | str, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


class Server:
    """One server process (with its children), listening on a free port of the loopback address."""

    def __init__(
        self, command: list[str], settings: Mapping[str, str], log: Path, core: int | str = SERVER_CORE
    ) -> None:
        """``{port}`` in the command, and the variable PORT, are the port's number; ``core`` may be a list, as "0,1"."""
        self.port = free_port()
        self.log = log
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*ENDS_WITH_ITS_STARTER, *pinned(core, *(word.replace("{port}", str(self.port)) for word in command))],
                cwd=ROOT,
                env={**inherited, **settings, "PORT": str(self.port)},
                stdout=output,
                stderr=output,
            )

    def wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"did not start: {self.log.read_text()[-1500:]}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory_kb(self) -> int:
        """Resident, of the process without its descendants."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def cpu_s(self) -> float:
        """Processor time so far, of the process and its descendants."""
        return sum(map(_cpu_s, _tree(self._process.pid)))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def cpu_s_of_machine() -> float:
    """Processor time of all processes so far, with what other machines on the same host took from this one."""
    user, nice, system, _idle, _wait, _irq, _softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, steal))) / TICKS_PER_S


def cpu_s_of_children() -> float:
    """Processor time of the children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
