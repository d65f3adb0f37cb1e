"""Processes of the service, forked from one that has imported it already.

To start Python and to import the service takes longer than most tests do with it. A forked process has its own
environment, output and signals, and begins where ``python -m service`` begins once its imports are done. What the imports
do is tested with processes that are started from nothing.

``python -m tests.support.warm_service <descriptor>`` is the process that forks. Over that socket it takes requests, each
with the descriptors for the standard input, output and error of the new process, and with a pipe for its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Final, NoReturn

from tests.support.eventually import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
LARGEST_REQUEST: Final = 1 << 17
IMPORTED_FIRST: Final = ("service.cli.main", "service.server.serve", "service.app", "fakeredis", "uvloop")
"""In the order in which ``python -m service`` imports them, with the embedded store."""

FORKING: Final = 2
"""How many processes take turns in forking: two replicas of one test do not agree on the hashes of texts by chance."""


class WarmProcess:
    """What tests use of ``subprocess.Popen``."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        *,
        stdout: int,
        stderr: int,
        stdin: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        self._status, status = os.pipe()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
            given = nothing.fileno() if stdin is None else stdin
            try:
                self.pid = _forker().fork(arguments, environment, [given, stdout, stderr, status])
            finally:
                os.close(status)

    def poll(self) -> int | None:
        self._look(0)
        return self.returncode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        self._look(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("service", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout_s: float) -> None:
        if self.returncode is None and select.select([self._status], [], [], timeout_s)[0]:
            told = os.read(self._status, 32)
            os.close(self._status)
            assert told, "the process that forks has ended"
            self.returncode = int(told)

    def __del__(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(OSError):
                os.close(self._status)


class _Forker:
    """The process that forks, as whoever asks it knows it."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = ("PATH", "HOME", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm_service", str(other.fileno())],
                cwd=ROOT, env={name: os.environ[name] for name in kept if name in os.environ},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[other.fileno()],
            )  # fmt: skip

    def end(self) -> None:
        self._control.close()
        self._process.wait(PATIENCE_S)

    def fork(self, arguments: list[str], environment: dict[str, str], descriptors: list[int]) -> int:
        with self._asking:
            socket.send_fds(self._control, [json.dumps([arguments, environment]).encode()], descriptors)
            return int(self._control.recv(32))


_forkers: list[_Forker] = []
_turns = itertools.cycle(range(FORKING))


def end_forkers() -> None:
    """They write what they know of the coverage at their end, which is to be before that of the test run."""
    while _forkers:
        _forkers.pop().end()


def _forker() -> _Forker:
    while len(_forkers) < FORKING:
        _forkers.append(_Forker())
    return _forkers[next(_turns)]


def _serve(control: socket.socket) -> None:
    """Fork until whoever asks is gone; then end what is left."""
    statuses: dict[int, int] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(1024)
            _tell_who_ended(statuses)
        if control not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 4)
        if not request:
            break
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A shell that runs the tests in the background has them ignore it, and they would pass that on.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor in (*statuses.values(), descriptors.pop(), control.detach(), woken.detach(), waker.detach()):
                os.close(descriptor)
            arguments, environment = json.loads(request)
            _become_the_service(arguments, environment, descriptors)
        statuses[pid] = descriptors.pop()
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())
    for pid in statuses:
        os.kill(pid, signal.SIGTERM)


def _tell_who_ended(statuses: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = statuses.pop(ended[0])
            with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
                os.write(status, str(os.waitstatus_to_exitcode(ended[1])).encode())
            os.close(status)


def _become_the_service(arguments: list[str], environment: dict[str, str], standard: list[int]) -> NoReturn:
    from service.cli.main import main  # noqa: PLC0415 - imported before the fork

    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["service", *arguments]
    status: object = 1
    try:
        status = main(arguments)
    except SystemExit as exc:
        status = exc.code
    except BaseException:  # noqa: BLE001 - as Python does with what nobody caught
        traceback.print_exc()
    # What Python does at its end, but for taking everything apart, which costs as much as a start.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    for module in IMPORTED_FIRST:
        importlib.import_module(module)
    gc.freeze()  # a collection in a forked process would have each page of these objects copied
    _serve(socket.socket(fileno=int(sys.argv[1])))
