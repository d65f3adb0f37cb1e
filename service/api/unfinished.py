"""The memory budget for bodies that have only partly arrived, and which body is given up when it is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from service.errors import UnavailableError

MAX_COMPARED: Final = 256
"""Compares at most this many of an address's bodies, the oldest, so that a flood of tiny ones costs no more."""

_CLOSE: Final = {"Connection": "close"}


class BodyGivenUpError(UnavailableError):
    """The budget was full, and this body was the one to give up."""

    def __init__(self) -> None:
        super().__init__("Too many unfinished request bodies at once; try again in a second", headers=_CLOSE)


@dataclass(eq=False, slots=True)
class UnfinishedBody:
    """A body that has only partly arrived."""

    address: str
    began_at: float = field(default_factory=time.monotonic)
    held_bytes: int = 0
    is_given_up: bool = False
    interruption: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    """The reader of the body runs inside this timeout, so that others can stop it."""


@dataclass(slots=True)
class _Share:
    """The unfinished bodies of one address, oldest first."""

    held_bytes: int = 0
    bodies: dict[UnfinishedBody, None] = field(default_factory=dict)


class UnfinishedBodies:
    """A budget of bytes. An address may use all that is free. When the budget is full, the address that holds most
    loses its slowest body; of equally slow ones, the oldest.

    There is one exception. When the newest piece belongs to the only body of that address, the slowest body of all is
    given up. Otherwise a thousand addresses with small bodies would keep out every larger body.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._bodies: dict[UnfinishedBody, None] = {}
        self._shares: dict[str, _Share] = {}

    @contextmanager
    def admit(self, address: str) -> Iterator[UnfinishedBody]:
        """A new, empty body. The end of the block releases what it holds."""
        body = UnfinishedBody(address)
        try:
            yield body
        finally:
            self.release(body)

    def hold(self, body: UnfinishedBody, size: int) -> None:
        """Count a piece that has arrived. Interrupts the bodies that are given up for it.

        Raises:
            BodyGivenUpError: this body was given up, now or since its last piece.
        """
        if body.is_given_up:
            raise BodyGivenUpError
        share = self._shares.setdefault(body.address, _Share())
        self._bodies[body] = share.bodies[body] = None
        body.held_bytes += size
        share.held_bytes += size
        self._held_bytes += size
        while self._held_bytes > self._limit_bytes:
            loser = self._loser(body)
            loser.is_given_up = True
            self.release(loser)
            if loser is body:
                raise BodyGivenUpError
            loser.interruption.reschedule(0)

    def release(self, body: UnfinishedBody) -> None:
        """Return the bytes that the body holds, if any."""
        if body not in self._bodies:
            return
        del self._bodies[body]
        share = self._shares[body.address]
        del share.bodies[body]
        if not share.bodies:
            del self._shares[body.address]
        share.held_bytes -= body.held_bytes
        self._held_bytes -= body.held_bytes
        body.held_bytes = 0

    def _loser(self, latest: UnfinishedBody) -> UnfinishedBody:
        most = max(self._shares.values(), key=lambda share: share.held_bytes)
        loser = _slowest(most.bodies)
        if loser is latest and len(most.bodies) == 1:
            return _slowest((*islice(self._bodies, MAX_COMPARED), latest))
        return loser


def _slowest(bodies: Iterable[UnfinishedBody]) -> UnfinishedBody:
    """The body with the fewest bytes a second since it began; of equally slow ones, the oldest."""
    now = time.monotonic()
    return min(islice(bodies, MAX_COMPARED + 1), key=lambda body: body.held_bytes / max(now - body.began_at, 1e-6))
