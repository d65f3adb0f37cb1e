"""Reads request bodies within bounds: of one body, and of all that are in flight."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from service.api.limits import BodyBudget
from service.api.responses import render_error
from service.errors import BodyTooLargeError, ServiceError

DRAIN_LIMIT_S: Final = 5.0
"""How long the rest of a refused body is still read, so that its sender gets to see the answer and not a reset."""


class ClientGoneError(Exception):
    """The sender went away in mid-body: there is nobody left to answer."""


class HeldBody:
    """A body being read, and its share of the budget, given back at the end of the block."""

    def __init__(self, budget: BodyBudget, max_bytes: int) -> None:
        self._budget = budget
        self._max_bytes = max_bytes
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._held)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            BodyTooLargeError: larger than ``MAX_BODY_BYTES``, by its own account or as it streams.
            UnavailableError: bodies in flight hold too much already.
            ClientGoneError: the connection closed before the end.
        """
        if announced_length(scope) > self._max_bytes:
            raise BodyTooLargeError(self._sentence)
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            if self._held + len(chunk) > self._max_bytes:
                raise BodyTooLargeError(self._sentence)
            self._budget.take(len(chunk))
            self._held += len(chunk)
            if not message.get("more_body", False):
                return chunk if not chunks else b"".join((*chunks, chunk))
            chunks.append(chunk)

    @property
    def _sentence(self) -> str:
        return f"The body is larger than {self._max_bytes} bytes"


def announced_length(scope: Scope) -> int:
    """Content-Length; 0 when there is none."""
    given = scope["named_headers"].get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


async def refuse(scope: Scope, receive: Receive, send: Send, error: ServiceError, max_bytes: int) -> None:
    """Answer before the body was read, then read and drop what still comes: up to one body more, or 5 s.

    Closing at once would reset the connection, and the sender would never see why.
    """
    status, body, headers = render_error(error)
    is_short = b"transfer-encoding" not in scope["named_headers"] and announced_length(scope) <= max_bytes
    close = [] if is_short else [(b"connection", b"close")]
    length = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*length, *headers, *close]})
    await send({"type": "http.response.body", "body": body, "more_body": not is_short})
    if is_short:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_LIMIT_S):
            await _drop(receive, max_bytes)
    await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive, limit: int) -> None:
    dropped = 0
    while dropped <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        dropped += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
