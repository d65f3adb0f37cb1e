"""A forked process of the service is what a started one is: environment, input, output, exit status, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from service import __version__
from tests.support.commands import run
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port
from tests.support.replica import Replica
from tests.support.warm_service import WarmProcess


def test_it_prints_what_a_started_one_prints() -> None:
    for command in ("--version", "check-config", "make-coffee"):
        forked, started = (run(command, max_wait_s=12.5, from_nothing=one) for one in (False, True))
        assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
        assert forked.stderr.splitlines()[-1:] == started.stderr.splitlines()[-1:]
    assert run("--version").stdout.strip() == __version__


def test_it_has_the_environment_that_it_is_given_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WAIT_S", "7")
    assert "MAX_WAIT_S=25" in run("check-config").stdout


def test_it_reads_its_standard_input() -> None:
    result = run("call", "--request", "-", stdin=b"no JSON")
    assert result.returncode == 1
    assert result.stderr


def test_a_signal_ends_it_and_is_told() -> None:
    replica = Replica().start()
    replica.terminate()
    assert replica.wait() == 0
    killed = Replica().start()
    killed.kill()
    assert killed.wait() == -signal.SIGKILL


def test_it_waits_no_longer_than_it_was_told() -> None:
    with Path(os.devnull).open("wb") as nowhere:
        settings = {"PORT": str(free_port()), "DRAIN_S": "0"}
        process = WarmProcess([], settings, stdout=nowhere.fileno(), stderr=nowhere.fileno())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    process.kill()
    eventually_sync(lambda: process.poll() == -signal.SIGKILL)


def test_it_has_no_descriptor_that_a_started_one_lacks() -> None:
    others = [Replica().start() for _ in range(3)]
    forked, started = Replica().start(), Replica(from_nothing=True).start()
    descriptors = [len(os.listdir(f"/proc/{one.pid}/fd")) for one in (forked, started)]  # noqa: PTH208 - a number
    for replica in (*others, forked, started):
        replica.stop()
    assert abs(descriptors[0] - descriptors[1]) <= 1, "the connection by which we asked may still be open"
