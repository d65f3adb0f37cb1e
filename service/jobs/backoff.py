"""How long a server that fails is left alone."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

LONGEST_PAUSE_S: Final = 60.0


class Backoff(msgspec.Struct):
    """No pause before the first failure, then 1 s, then twice as long after each further one, up to LONGEST_PAUSE_S."""

    failures: int = 0
    until: float = 0.0
    """Loop time."""

    def begin(self) -> None:
        """Begin the pause after a failure. A failure during the pause, of a try that began before it, changes nothing."""
        now = asyncio.get_running_loop().time()
        if now >= self.until:
            self.until = now + min(2.0**self.failures, LONGEST_PAUSE_S)
            self.failures = min(self.failures + 1, 10)

    @property
    def left_s(self) -> float:
        """Of the pause; zero or less when it is over."""
        return self.until - asyncio.get_running_loop().time()
