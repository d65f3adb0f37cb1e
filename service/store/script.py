"""Lua scripts, called by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from importlib.resources import files
from typing import Any, Final

from service.store.command import Argument, Commands

RESUME_WAITING: Final = "resume_waiting.lua"
"""One function, shared by all scripts after which nobody needs to wait for a call any more."""


class Script:
    """A script of this package, behind the one whose function it ``uses``.

    Redis forgets scripts when it restarts; then it is sent whole, once.
    """

    def __init__(self, name: str, *, uses: str | None = None) -> None:
        folder = files("service.store")
        self._source = b"".join(folder.joinpath(part).read_bytes() for part in (uses, name) if part)
        self.sha = hashlib.sha1(self._source, usedforsecurity=False).hexdigest().encode()

    def run(
        self,
        redis: Commands,
        bucket: int,
        *keys_and_args: Argument,
        keys: int,
        is_durable: bool = False,
        deadline: float | None = None,
    ) -> Awaitable[Any]:
        return redis.execute(
            b"EVALSHA", self.sha, keys, *keys_and_args,
            bucket=bucket, script=self._source, is_durable=is_durable, deadline=deadline,
        )  # fmt: skip
