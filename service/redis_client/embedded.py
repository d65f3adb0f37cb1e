"""The embedded store (``memory://``): what a redis-server does by itself and fakeredis only when asked."""

from __future__ import annotations

from typing import Final

from service.redis_client.command import Commands

FREE_EVERY_S: Final = 0.5
"""One call takes the embedded store 5 ms to merge, so about a hundred expire in this time; freeing them took 3 ms."""


async def free_expired(redis: Commands) -> None:
    """Have fakeredis drop the keys that expired; it does so only for a key that is read, or when it counts all.

    12,000 expired calls that nobody read again held 306 MB.
    """
    await redis.execute(b"DBSIZE")
