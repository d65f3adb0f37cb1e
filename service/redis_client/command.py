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
"""Before a command that a Cluster's ASK redirected."""

_COMMANDS_FAULT: Final = re.compile("WRONGTYPE|unknown command|wrong number of arguments|user_script:[0-9]+: ")
"""In error replies: of a script's own error, Redis names the line before what went wrong."""


class Commands(Protocol):
    """What the stores need of Redis, whatever its topology: a command goes to whoever has its keys' bucket."""

    @property
    def topology_problem(self) -> str | None:
        """What is wrong with REDIS_URL: it leads to another kind of Redis than it says."""
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


LONGEST_OWED_S: Final = 3.0
"""How much later than its deadline a command may fail because the event loop did not keep up. On a machine that gave the
process a tenth of a core, a second of the ResponsiveClock took ten, and so long a webhook waited for its 503."""


class Command:
    """One command and everybody who waits for its reply.

    ``script`` is the source of the script that it calls by its hash, for a Redis that does not know it yet.

    Every waiter has a future and a deadline of its own: a request that is cancelled, or whose time is up, takes only
    its own away.
    """

    __slots__ = (
        "_earliest",
        "_owed_until",
        "args",
        "coalesce_key",
        "is_durable",
        "needs_asking",
        "packed",
        "script",
        "should_answer",
        "waiters",
    )  # fmt: skip

    def __init__(
        self,
        args: Arguments,
        script: bytes | None,
        coalesce_key: object,
        waiter: asyncio.Future[Any],
        deadline: float,
        owed_until: float,
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
        """Who waits for the reply, and until when (``time.monotonic``)."""
        self.should_answer = False
        self._earliest = deadline
        self._owed_until = owed_until

    def add_waiter(self, waiter: asyncio.Future[Any], deadline: float) -> None:
        self.waiters[waiter] = deadline
        self._earliest = min(self._earliest, deadline)

    def expire(self, now: float, responsive_s: float, cause: Exception) -> None:
        """Fail the waiters whose time is up. The command is settled once nobody is left.

        ``responsive_s`` is the time of the pipeline's ResponsiveClock: nobody is late before it reaches ``owed_until``,
        but for LONGEST_OWED_S at most.
        """
        is_owed_time = self._owed_until > responsive_s and now < self._earliest + LONGEST_OWED_S
        if self._earliest > now or is_owed_time or self.should_answer:
            return
        late = [waiter for waiter, deadline in self.waiters.items() if deadline <= now]
        for waiter in late:
            del self.waiters[waiter]
            if not waiter.done():
                waiter.set_exception(unavailable(cause))
        self._earliest = min(self.waiters.values(), default=math.inf)
        self.should_answer = not self.waiters

    def send_script(self) -> None:
        """Instead of its hash, the next time; once."""
        self._pack((b"EVAL", self.script, *self.args[2:]))
        self.script = None

    def _pack(self, args: Arguments) -> None:
        command = hiredis.pack_command(args)
        self.packed = _ASKING + command if self.needs_asking else command

    def resolve(self, value: Any) -> None:
        self.should_answer = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(value)

    def fail(self, error: Exception) -> None:
        self.should_answer = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


def refused(error: ResponseError) -> StoreUnavailableError:
    """No sender can cause an error reply: it speaks of Redis's state, unless it names the command's own fault."""
    return unavailable(error, StoreRefusedError if _COMMANDS_FAULT.search(str(error)) else StoreUnavailableError)


def unavailable(cause: Exception, kind: type[StoreUnavailableError] = StoreUnavailableError) -> StoreUnavailableError:
    failure = kind("The result store is not available now; try again in a second")
    failure.__cause__ = cause
    return failure
