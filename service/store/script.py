"""Lua scripts, called by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from importlib.resources import files
from typing import Any

from service.store.command import Argument, Commands


class Script:
    """A script of this package. Redis forgets scripts when it restarts; then it is sent whole, once."""

    def __init__(self, name: str) -> None:
        self._source = files("service.store").joinpath(name).read_bytes()
        self._sha = hashlib.sha1(self._source, usedforsecurity=False).hexdigest().encode()

    def run(
        self, redis: Commands, bucket: int, *keys_and_args: Argument, keys: int, is_durable: bool = False
    ) -> Awaitable[Any]:
        return redis.execute(
            b"EVALSHA", self._sha, keys, *keys_and_args,
            bucket=bucket, fallback=(b"EVAL", self._source, keys, *keys_and_args), is_durable=is_durable,
        )  # fmt: skip
