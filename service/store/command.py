"""One command to Redis: what is sent, who waits for its reply, and what an error reply means."""

from __future__ import annotations

import asyncio
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
        share_as: object = None,
        is_durable: bool = False,
    ) -> Awaitable[Any]: ...


class Command:
    """One command and everybody who waits for its reply.

    ``script`` is the source of the script that it calls by its hash, for a Redis that does not know it yet.

    Every waiter has a future of its own: a request that is cancelled takes only its own away.
    """

    __slots__ = ("args", "deadline", "is_asking", "is_durable", "is_settled", "packed", "script", "share_as", "waiters")

    def __init__(
        self,
        args: Arguments,
        deadline: float,
        script: bytes | None,
        share_as: object,
        *,
        is_durable: bool,
        is_asking: bool,
    ) -> None:
        self.is_asking = is_asking
        self.args = args
        self._pack(args)
        self.deadline = deadline
        self.script = script
        self.share_as = share_as
        self.is_durable = is_durable
        self.waiters: list[asyncio.Future[Any]] = []
        self.is_settled = False

    def send_script(self) -> None:
        """Instead of its hash, the next time; once."""
        self._pack((b"EVAL", self.script, *self.args[2:]))
        self.script = None

    def _pack(self, args: Arguments) -> None:
        command = hiredis.pack_command(args)
        self.packed = _ASKING + command if self.is_asking else command

    def resolve(self, value: Any) -> None:
        self.is_settled = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(value)

    def fail(self, error: Exception) -> None:
        self.is_settled = True
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
