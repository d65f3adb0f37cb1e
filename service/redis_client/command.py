"""One command to Redis: what is sent, who waits for its reply, and what an error reply means."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable
from typing import Any, Final, Protocol

import hiredis
from redis.exceptions import ResponseError

from service.errors import StoreRefusedError, StoreUnavailableError

Argument = bytes | str | int | float
Arguments = tuple[Any, ...]
"""A command: its name and its arguments, each an Argument; hiredis takes nothing else."""

_ASKING: Final = hiredis.pack_command(("ASKING",))
"""Sent before a command that a Cluster's ASK redirected."""

_ARGUMENTS: Final = ", with args beginning with:"
_COMMANDS_FAULT: Final = re.compile("WRONGTYPE|unknown command|wrong number of arguments|user_script:[0-9]+: ")
"""Found in error replies that the command itself causes. For a script's error, Redis names its line."""


class Commands(Protocol):
    """What the stores need of Redis in any topology: a command goes to the master of its keys' bucket."""

    @property
    def topology_problem(self) -> str | None:
        """Set when REDIS_URL leads to another kind of Redis than it says; None otherwise."""
        ...

    def execute(
        self,
        *args: Any,
        bucket: int = 0,
        script: bytes | None = None,
        coalesce_key: object = None,
        is_durable: bool = False,
        deadline: float | None = None,
    ) -> Awaitable[Any]: ...


MAX_LATENESS_S: Final = 3.0
"""How much later than its deadline a command may fail when the event loop is busy. Without this bound, with a tenth of
a core, one second of the ResponsiveClock took ten, and a webhook waited that long for its 503."""


class Command:
    """One command and the requests that wait for its reply.

    ``script`` is the source of the script that it calls by its hash, for a Redis that does not know it yet.

    Every waiter has a future and a deadline of its own. A request that is cancelled or late does not affect the others.
    """

    __slots__ = (
        "_earliest",
        "_responsive_deadline_s",
        "args",
        "coalesce_key",
        "is_done",
        "is_durable",
        "needs_asking",
        "packed",
        "script",
        "waiters",
    )  # fmt: skip

    def __init__(
        self,
        args: Arguments,
        script: bytes | None,
        coalesce_key: object,
        waiter: asyncio.Future[Any],
        deadline: float,
        responsive_deadline_s: float,
        *,
        is_durable: bool,
        needs_asking: bool,
    ) -> None:
        self.needs_asking = needs_asking
        self.args = args
        self._pack(args)
        self.script = script
        self.coalesce_key = coalesce_key
        self.is_durable = is_durable
        self.waiters = {waiter: deadline}
        """The future of each waiting request, and its deadline (``time.monotonic``)."""
        self.is_done = False
        self._earliest = deadline
        self._responsive_deadline_s = responsive_deadline_s

    def add_waiter(self, waiter: asyncio.Future[Any], deadline: float) -> None:
        self.waiters[waiter] = deadline
        self._earliest = min(self._earliest, deadline)

    def fail_late(self, now: float, responsive_s: float, cause: Exception) -> None:
        """Fail the waiters whose time is up. The command is done once no waiter is left.

        ``responsive_s`` is the time of the pipeline's ResponsiveClock. No waiter is late before it reaches
        ``responsive_deadline_s``, which may delay the failure by MAX_LATENESS_S at most.
        """
        may_still_be_answered = self._responsive_deadline_s > responsive_s and now < self._earliest + MAX_LATENESS_S
        if self._earliest > now or may_still_be_answered or self.is_done:
            return
        late = [waiter for waiter, deadline in self.waiters.items() if deadline <= now]
        for waiter in late:
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_exception(unavailable(cause))
        self._earliest = min(self.waiters.values(), default=math.inf)
        self.is_done = not self.waiters

    def send_script(self) -> None:
        """Send the script's source instead of its hash in the next attempt. Call it at most once."""
        self._pack((b"EVAL", self.script, *self.args[2:]))
        self.script = None

    def _pack(self, args: Arguments) -> None:
        command = hiredis.pack_command(args)
        self.packed = _ASKING + command if self.needs_asking else command

    def resolve(self, value: Any) -> None:
        self.is_done = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(value)

    def fail(self, error: Exception) -> None:
        self.is_done = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


def refused(error: ResponseError) -> StoreUnavailableError:
    """An error reply is about Redis's state, unless it names a fault of the command. No sender can cause one.

    To a command that it does not know, Redis replies with the command's arguments, and they may hold what people said.
    """
    text, arguments, _ = str(error).partition(_ARGUMENTS)
    kind = StoreRefusedError if _COMMANDS_FAULT.search(text) else StoreUnavailableError
    return unavailable(type(error)(text) if arguments else error, kind)


def unavailable(cause: Exception, kind: type[StoreUnavailableError] = StoreUnavailableError) -> StoreUnavailableError:
    failure = kind("The result store is not available now; try again in a second")
    failure.__cause__ = cause
    return failure
