"""Reads replies that have arrived already from a redis-py connection, without a coroutine for each."""

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
    """The parser of an open connection's replies; None for the embedded store, which has nothing to parse."""
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    return reader if isinstance(reader, hiredis.Reader) else None


def arrived_replies(connection: AbstractConnection) -> Callable[[], Any]:
    """A function that returns an open connection's next reply, or NOTHING. Error replies are returned, not raised.

    ``read_response`` costs several microseconds a reply, and many notifications arrive together.

    Raises (from the function):
        redis.exceptions.ConnectionError: an error reply after which redis-py closes the connection.
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
