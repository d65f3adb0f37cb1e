"""Limits for clients without credentials: failed proofs per address, log lines, bytes of request bodies in memory."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from service.api.client_address import ClientAddresses
from service.errors import TooManyRequestsError, UnavailableError

FAILURES_ALLOWED: Final = 30
FAILURES_WINDOW_S: Final = 60.0
"""30 failures a minute: enough for somebody who sets it up, too few to guess a secret."""

ADDRESSES_REMEMBERED: Final = 10_000
"""Bounds the memory that strangers can make us use."""

REFUSALS_LOGGED_EVERY_S: Final = 60.0

BODIES_HELD_BYTES: Final = 64 * 1024 * 1024
"""Memory for the bodies of proven webhooks in one worker; twice the largest body if that is more."""

UNPROVEN_BYTES: Final = 32 * 1024 * 1024
"""Memory for webhooks whose signature is checked at the end of the body; twice the largest body if that is more."""

CALLERS_BYTES: Final = 16 * 1024 * 1024
"""Memory for unfinished bodies of callers with a token: 256 bodies of the usual limit. Webhooks have other budgets."""


class FailedProofs:
    """Counts requests with a wrong or missing proof or token in the last minute, per client address."""

    def __init__(self, addresses: ClientAddresses) -> None:
        self._addresses = addresses
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, scope: Scope, now_s: float) -> None:
        """Record one more failure of this client.

        Raises:
            TooManyRequestsError: this is the 31st failure within 60 s.
        """
        address = self._addresses.network_of(scope)
        times = self._failures.setdefault(address, deque(maxlen=FAILURES_ALLOWED))
        self._failures.move_to_end(address)
        if len(self._failures) > ADDRESSES_REMEMBERED:
            self._failures.popitem(last=False)
        if len(times) == FAILURES_ALLOWED and now_s - times[0] < FAILURES_WINDOW_S:
            retry_after = math.ceil(times[0] + FAILURES_WINDOW_S - now_s)
            raise TooManyRequestsError(
                "Too many requests without valid credentials from this address",
                headers={"Retry-After": str(max(1, retry_after))},
            )
        times.append(now_s)


class RefusalLog:
    """Decides which refusals are logged: one per client address and minute, so that clients without credentials cannot
    fill the disk.
    """

    def __init__(self, addresses: ClientAddresses) -> None:
        self._addresses = addresses
        self._last: OrderedDict[str, _LastRefusal] = OrderedDict()

    def admit(self, scope: Scope, now_s: float) -> bool:
        """True when this refusal should be logged. Its access line then counts the refusals left out before it."""
        address = self._addresses.network_of(scope)
        last = self._last.get(address)
        if last is not None and now_s - last.logged_at_s < REFUSALS_LOGGED_EVERY_S:
            last.left_out += 1
            scope["is_left_out_of_log"] = True
            return False
        self._last[address] = _LastRefusal(now_s)
        self._last.move_to_end(address)
        if len(self._last) > ADDRESSES_REMEMBERED:
            self._last.popitem(last=False)
        scope["log"]["address"] = address
        scope["log"]["left_out"] = last.left_out if last is not None else 0
        return True


@dataclass(slots=True)
class _LastRefusal:
    logged_at_s: float
    left_out: int = 0


class BodyBudget:
    """Counts the bytes of proven bodies in flight in this worker."""

    def __init__(self, max_body_bytes: int) -> None:
        self._limit = max(BODIES_HELD_BYTES, 2 * max_body_bytes)
        self._held = 0

    def take(self, size: int) -> None:
        if self._held + size > self._limit:
            raise UnavailableError("Too many request bodies at once; try again in a second")
        self._held += size

    def give_back(self, size: int) -> None:
        self._held -= size
