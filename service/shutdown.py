"""Announces the end of the process to the parts that keep serving until then."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

log = structlog.get_logger(__name__)


class Shutdown:
    """Whether shutdown has begun. From then on parked polls are answered, and the replica reports not ready."""

    def __init__(self) -> None:
        self.has_begun = False
        self.on_begin: list[Callable[[], None]] = []
        """Called once, when shutdown begins."""

    def begin(self) -> None:
        self.has_begun = True
        for tell in self.on_begin:
            tell()


@contextmanager
def begin_on_signal(shutdown: Shutdown, drain_s: float) -> Iterator[None]:
    """On SIGTERM, answer parked polls and report not ready at once, but keep serving for ``DRAIN_S`` before exiting.

    The server's own handler closes the listening socket at once, while load balancers still send requests to it.
    SIGINT (Ctrl-C at a terminal) does not wait. Without a handler of the server, as in tests, nothing changes.
    """
    loop = asyncio.get_running_loop()
    waits = {signal.SIGTERM: drain_s, signal.SIGINT: 0.0}
    originals = {number: signal.getsignal(number) for number in waits}
    if threading.current_thread() is not threading.main_thread() or not callable(originals[signal.SIGTERM]):
        yield
        return

    def stop(number: int) -> None:
        original = originals[signal.Signals(number)]
        if callable(original):
            original(number, None)

    def drain(number: int) -> None:
        if not shutdown.has_begun:
            log.info("service.draining", signal=signal.Signals(number).name)
            shutdown.begin()
            loop.call_later(waits[signal.Signals(number)], stop, number)
        elif number == signal.SIGINT:
            stop(number)

    def on_signal(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain, number)

    for number in waits:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, original in originals.items():
            signal.signal(number, original)
