"""Limits how many tests run at a time on this machine, so that two runs side by side load it no more than one does."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.reservations import reserve

LONGEST_WAIT_S: Final = 120.0
"""Then the block begins without a turn: the processes that have them may be stopped, by a debugger or by Ctrl-Z."""

PAUSE_S: Final = 0.05


@contextmanager
def turn(what: str, at_a_time: int, longest_wait_s: float = LONGEST_WAIT_S) -> Iterator[None]:
    """Wait until fewer than ``at_a_time`` blocks of this name run on the machine, then run the block."""
    give_up_at = time.monotonic() + longest_wait_s
    while (held := _take_free(what, at_a_time)) is None and time.monotonic() < give_up_at:
        time.sleep(PAUSE_S)
    try:
        yield
    finally:
        if held is not None:
            held.close()


def _take_free(what: str, at_a_time: int) -> socket.socket | None:
    for number in range(at_a_time):
        if (held := reserve(f"{what}-{number}")) is not None:
            return held
    return None
