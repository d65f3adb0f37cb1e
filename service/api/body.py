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
        self._is_complete = False

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
            self._is_complete = not message.get("more_body", False)
            if self._held + len(chunk) > self._max_bytes:
                raise BodyTooLargeError(self._sentence)
            self._budget.take(len(chunk))
            self._held += len(chunk)
            if self._is_complete:
                return chunk if not chunks else b"".join((*chunks, chunk))
            chunks.append(chunk)

    async def refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        """Answer at once; then read and drop what still comes, up to as much again as we take, or 5 s.

        Closing at once would reset the connection, and the sender would never see why.
        """
        status, body, headers = render_error(error)
        is_short = b"transfer-encoding" not in scope["named_headers"] and announced_length(scope) <= self._max_bytes
        ends_here = self._is_complete or is_short
        close = [] if ends_here else [(b"connection", b"close")]
        length = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": [*length, *headers, *close]})
        await send({"type": "http.response.body", "body": body, "more_body": not ends_here})
        if ends_here:
            return
        allowance = 2 * self._max_bytes - self._held
        self._budget.give_back(self._held)
        self._held = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_LIMIT_S):
                await _drop(receive, allowance)
        await send({"type": "http.response.body", "body": b""})

    @property
    def _sentence(self) -> str:
        return f"The body is larger than {self._max_bytes} bytes"


def announced_length(scope: Scope) -> int:
    """Content-Length; 0 when there is none."""
    given = scope["named_headers"].get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


async def _drop(receive: Receive, allowance: int) -> None:
    while allowance >= 0:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        allowance -= len(message.get("body", b""))
