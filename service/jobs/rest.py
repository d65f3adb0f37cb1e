"""Pauses in which nothing is sent to somebody who does not answer."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

LONGEST_REST_S: Final = 60.0
"""The first rest is a second, each further one twice as long, up to this."""


class Rest(msgspec.Struct):
    """Before the first failure, none."""

    failures: int = 0
    until: float = 0.0
    """Loop time."""

    def begin(self) -> None:
        """After a failure. One of a try that was already under way when the rest began does not make it longer."""
        now = asyncio.get_running_loop().time()
        if now >= self.until:
            self.until = now + min(2.0**self.failures, LONGEST_REST_S)
            self.failures = min(self.failures + 1, 10)

    @property
    def left_s(self) -> float:
        """Zero or less when it is over."""
        return self.until - asyncio.get_running_loop().time()
