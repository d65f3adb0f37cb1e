"""Lua scripts, called by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from typing import Any

from service.redis_client.command import Argument, Commands


class Script:
    """A script by its source. After a restart Redis does not know its hash; then the source is sent once."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self.sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()

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
