"""Reads from a redis-py connection what has arrived already, without a coroutine for every reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

NOTHING: Final = NOT_ENOUGH_DATA
"""No whole reply has arrived yet."""


def reader_of(connection: AbstractConnection) -> hiredis.Reader | None:
    """What parses an open connection's replies; None for the embedded store's, which has nothing to parse."""
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    return reader if isinstance(reader, hiredis.Reader) else None


def arrived_replies(connection: AbstractConnection) -> Callable[[], Any]:
    """What gives an open connection's next reply, or NOTHING; an error reply is returned, not raised.

    ``read_response`` costs several microseconds a reply, and many notifications arrive together.

    Raises (from what it returns):
        redis.exceptions.ConnectionError: an error reply after which redis-py gives the connection up.
    """
    reader = reader_of(connection)
    if reader is None:
        return lambda: NOTHING
    gets = reader.gets

    def next_reply() -> Any:
        reply = gets()
        if isinstance(reply, RedisConnectionError):
            raise reply
        return reply

    return next_reply
