"""The embedded store (``memory://``): work that redis-server does by itself, and fakeredis only on demand."""

from __future__ import annotations

from typing import Final

from service.redis_client.command import Commands

FREE_EVERY_S: Final = 0.5
"""A merge takes the embedded store 5 ms, so about a hundred calls expire in this time. Freeing them took 3 ms."""


async def free_expired(redis: Commands) -> None:
    """Make fakeredis drop expired keys. It drops a key only when that is read, and all of them when it counts its keys.

    12,000 expired calls that were not read again held 306 MB.
    """
    await redis.execute(b"DBSIZE")
