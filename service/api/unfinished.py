"""The memory that bodies share while only a part of each has arrived, and who gives way when it is full."""

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
"""Of an address's bodies the oldest so many are compared, so that a flood of tiny ones costs no more than this."""

_CLOSE: Final = {"Connection": "close"}


class BodyGivenUpError(UnavailableError):
    """Others needed the room more than this body, which came too slowly."""

    def __init__(self) -> None:
        super().__init__("Too many unfinished request bodies at once; try again in a second", headers=_CLOSE)


@dataclass(eq=False, slots=True)
class UnfinishedBody:
    """A body of which a part has arrived."""

    address: str
    began_at: float = field(default_factory=time.monotonic)
    held_bytes: int = 0
    is_given_up: bool = False
    interruption: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    """Around whoever reads the body: how others make it stop."""


@dataclass(slots=True)
class _Share:
    """The unfinished bodies of one address, oldest first."""

    held_bytes: int = 0
    bodies: dict[UnfinishedBody, None] = field(default_factory=dict)


class UnfinishedBodies:
    """A budget of bytes. An address may use all that is free; when nothing is, the address that holds most loses its
    slowest, oldest body.

    A body that is alone at its address and has just grown beyond all others gives way only if it is the slowest of all:
    else a thousand addresses that hold a little each would keep out every body larger than that.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._bodies: dict[UnfinishedBody, None] = {}
        self._shares: dict[str, _Share] = {}

    @contextmanager
    def admit(self, address: str) -> Iterator[UnfinishedBody]:
        """A body that holds nothing yet; what it holds at the end of the block is given back."""
        body = UnfinishedBody(address)
        try:
            yield body
        finally:
            self.release(body)

    def hold(self, body: UnfinishedBody, size: int) -> None:
        """Count a piece that has arrived; bodies that give way to it are interrupted.

        Raises:
            BodyGivenUpError: this body gives way itself, now or since its last piece.
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
        """Give back what it holds, if anything."""
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
    """By bytes a second since it began; of two as slow, the older."""
    now = time.monotonic()
    return min(islice(bodies, MAX_COMPARED + 1), key=lambda body: body.held_bytes / max(now - body.began_at, 1e-6))
