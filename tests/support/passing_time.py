"""Makes a call in Redis older than it is, as if nothing had happened to it for a while."""

from __future__ import annotations

from typing import Any, Final

STATE_TIMES: Final = (1, 2, 3, 6)
"""Which numbers of a record's state are moments: created, updated, expires, over."""

ASKED_TIMES: Final = (2, 3)
"""Which words of a lease are moments: when it may be claimed, when VAPI first did not know the call."""


async def let_pass(redis: Any, call_key: bytes, seconds: float) -> None:
    """Move every moment that the call's hash holds so far into the past; its expiry in Redis stays."""
    for field, moments in (("state", STATE_TIMES), ("asked", ASKED_TIMES)):
        text = await redis.hget(call_key, field)
        if text is not None:
            await redis.hset(call_key, field, earlier(text.decode(), moments, round(seconds * 1000)))


def earlier(text: str, moments: tuple[int, ...], by_ms: int) -> str:
    """The words with those that are moments made less; 0 is none."""
    words = text.split(" ")
    for place in moments:
        if words[place] != "0":
            words[place] = str(int(words[place]) - by_ms)
    return " ".join(words)


async def let_refresh_pass(redis: Any, refresh_key: bytes, call_id: str, seconds: float) -> None:
    """Move the moment when VAPI may be asked once more for a complete call so far into the past."""
    if await redis.zscore(refresh_key, call_id) is not None:
        await redis.zincrby(refresh_key, -round(seconds * 1000), call_id)
