"""The commands that the service sends to Redis, and which of them its user may not send.

Each is tried in a form that changes nothing: with a key that holds nothing of ours, or with an argument that Redis
refuses after it has checked the user's rights. ``ACL DRYRUN`` would be simpler, but only administrators may use it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from service.config import Settings
from service.errors import StoreUnavailableError
from service.redis_client.topology import RedisTopology
from service.store.keys import Keys

TRIAL_TTL_MS: Final = 5000

KEY: Final = "<key>"
NO_NUMBER: Final = "x"

TRIALS: Final[Mapping[str, tuple[str, ...]]] = {
    "evalsha": ("0" * 40, "1", KEY),
    "eval": ("return 1", "1", KEY),
    "ping": (),
    "time": (),
    "get": (KEY,),
    "pexpire": (KEY, NO_NUMBER),
    "pexpireat": (KEY, NO_NUMBER),
    "hset": (KEY, "f", "v", "f"),
    "hdel": (KEY, "f"),
    "hget": (KEY, "f"),
    "hmget": (KEY, "f"),
    "hgetall": (KEY,),
    "hlen": (KEY,),
    "zadd": (KEY, NO_NUMBER, "m"),
    "zrem": (KEY, "m"),
    "zrange": (KEY, "0", "0"),
    "zrevrange": (KEY, "0", "0"),
    "zrangebyscore": (KEY, "0", "0"),
    "zremrangebyscore": (KEY, "0", "0"),
    "zscore": (KEY, "m"),
    "zcount": (KEY, "0", "0"),
}
"""Arguments for each. Commands whose trial needs an order or a connection of its own are in ``_Trial.run``."""

ARCHIVE_TRIALS: Final[Mapping[str, tuple[str, ...]]] = {
    "xadd": (KEY, NO_NUMBER, "f", "v"),
    "xlen": (KEY,),
    "xrange": (KEY, "-", "+"),
    "xdel": (KEY, "0-1"),
    "xack": (KEY, "g", "0-1"),
    "xgroup": ("DELCONSUMER", KEY, "g", "c"),
    "xinfo": ("CONSUMERS", KEY, "g"),
    "xpending": (KEY, "g"),
    "xclaim": (KEY, "g", "c", "0", "0-1"),
    "xautoclaim": (KEY, "g", "c", "0", "0-0"),
    "xreadgroup": ("GROUP", "g", "c", "STREAMS", KEY, ">"),
}
"""Needed as well with ``DATABASE_URL``."""

OPTIONAL: Final = frozenset({"info"})
"""Without it the service only cannot see how full Redis is."""


class Rights(msgspec.Struct, frozen=True):
    """What is missing, in the words of an ACL rule: ``+hset``, ``~vapi:*``, ``&vapi:*``."""

    missing: tuple[str, ...]
    missing_optional: tuple[str, ...]


async def find_missing_rights(redis: RedisTopology, settings: Settings, bucket: int) -> Rights:
    """What the user lacks at the master of that bucket.

    Raises:
        StoreUnavailableError: Redis does not answer.
    """
    trial = _Trial(redis, settings, bucket)
    await trial.run()
    optional = {f"+{command}" for command in OPTIONAL}
    missing = sorted(set(trial.missing))
    return Rights(
        tuple(right for right in missing if right not in optional),
        tuple(right for right in missing if right in optional),
    )


class _Trial:
    def __init__(self, redis: RedisTopology, settings: Settings, bucket: int) -> None:
        self._redis = redis
        self._settings = settings
        self._keys = Keys(settings.redis_key_prefix)
        self._bucket = bucket
        self._key = self._keys.probes[bucket] + b":" + secrets.token_hex(8).encode()
        self.missing: list[str] = []

    async def run(self) -> None:
        trials = TRIALS if self._settings.database_url is None else {**TRIALS, **ARCHIVE_TRIALS}
        await asyncio.gather(*(self._try(command, *self._filled(words)) for command, words in trials.items()))
        # INCR has no form that changes nothing, so it gets a key that is no number and soon expires.
        if await self._try("set", self._key, "no number", "PX", TRIAL_TTL_MS):
            await self._try("incr", self._key)
        await self._try("del", self._key)
        await self._try("publish", self._keys.changes, self._key)  # nobody waits for a call of that name
        if self._settings.store_wait_replicas:
            await self._try("wait", 0, 1)
        if "+cluster:" in self._settings.redis_url:
            await self._try("asking")
            await self._try_connected("cluster|slots", "CLUSTER", "SLOTS")
        await self._try("info", "server")
        await self._try_connected("subscribe", "SUBSCRIBE", self._keys.changes)

    def _filled(self, words: tuple[str, ...]) -> list[bytes | str]:
        return [self._key if word == KEY else word for word in words]

    async def _try(self, command: str, *arguments: Any) -> bool:
        try:
            await self._redis.commands.execute(command.upper(), *arguments, bucket=self._bucket)
        except StoreUnavailableError as exc:
            if isinstance(exc.__cause__, NoPermissionError):
                self._note(command, str(exc.__cause__))
                return False
            if not isinstance(exc.__cause__, ResponseError):
                raise
        return True  # Redis refuses arguments only after it has checked the rights

    async def _try_connected(self, command: str, *words: Any) -> None:
        """On a connection of its own, which a subscription would make useless for other commands."""
        connection = self._redis.connect_subscriber()
        try:
            async with asyncio.timeout(self._settings.store_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command(*words)
                await connection.read_response()
        except NoPermissionError as exc:
            self._note(command, str(exc))
        except (RedisError, OSError, TimeoutError) as exc:
            raise StoreUnavailableError("Redis does not answer") from exc
        finally:
            await connection.disconnect(nowait=True)

    def _note(self, command: str, refusal: str) -> None:
        """https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/: command, keys or channels."""
        prefix = self._settings.redis_key_prefix
        if "to run the" in refusal:
            self.missing.append(f"+{command}")
        else:
            self.missing.append(f"&{prefix}:*" if "channel" in refusal else f"~{prefix}:*")
