"""The turns that tests take: never more at a time than said, also of several processes, and none lost by a death."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from tests.support.eventually import PATIENCE_S, eventually_sync
from tests.support.turns import turn

TAKES_ONE = """
import sys, time
from tests.support.turns import turn
with turn(sys.argv[1], 2):
    print("taken", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def what() -> str:
    return f"test-of-turns-{os.getpid()}"


def take_in_thread(what: str) -> tuple[threading.Thread, threading.Event, threading.Event]:
    """A thread that takes a turn of two; what it sets when it has one, and what makes it give it back."""
    has_turn, may_end = threading.Event(), threading.Event()

    def take() -> None:
        with turn(what, 2):
            has_turn.set()
            may_end.wait(PATIENCE_S)

    thread = threading.Thread(target=take)
    thread.start()
    return thread, has_turn, may_end


def test_who_finds_all_turns_taken_waits_for_one(what: str) -> None:
    with ExitStack() as turns:
        turns.enter_context(turn(what, 2))
        with turn(what, 2):
            thread, has_turn, may_end = take_in_thread(what)
            assert not has_turn.wait(0.3)
        eventually_sync(has_turn.is_set)
        may_end.set()
        thread.join()


def test_a_process_that_is_killed_gives_its_turn_back(what: str) -> None:
    with turn(what, 2):
        command = [sys.executable, "-c", TAKES_ONE, what]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"taken\n"
            thread, has_turn, may_end = take_in_thread(what)
            assert not has_turn.wait(0.3)
            other.kill()
        eventually_sync(has_turn.is_set)
        may_end.set()
        thread.join()


def test_nobody_waits_for_ever_for_processes_that_stand_still(what: str) -> None:
    with turn(what, 1), turn(what, 1, longest_wait_s=0.2):
        pass
