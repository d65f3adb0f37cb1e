"""Reads request bodies, with a limit for each body and one for all bodies in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from service.api.limits import BodyBudget
from service.api.responses import render_error
from service.api.unfinished import BodyGivenUpError, UnfinishedBodies
from service.errors import BodyTooLargeError, ServiceError
from service.vapi.authentication import SignatureCheck

DISCARD_LIMIT_S: Final = 5.0
"""How long we keep reading a refused body, so that its sender sees the answer and not a reset."""


class ClientGoneError(Exception):
    """The sender disconnected before the end of its body, so no answer is sent."""


class BoundedBody:
    """A body being read. At the end of the block it returns its share of the budget for proven bodies."""

    def __init__(self, budget: BodyBudget, max_bytes: int) -> None:
        self.is_proven = False
        """Whether the sender proved who it is before the body was read."""
        self._budget = budget
        self._max_bytes = max_bytes
        self._size = 0
        self._held = 0
        self._is_complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._held)

    async def read(self, scope: Scope, receive: Receive, take: Callable[[bytes], None] | None = None) -> bytes:
        """The whole body.

        ``take`` receives each piece as it arrives and may raise. Without ``take`` the body counts as proven.

        Raises:
            BodyTooLargeError: its Content-Length, or what has arrived, exceeds ``max_bytes``.
            UnavailableError: the budget for proven bodies is full.
            ClientGoneError: the connection closed before the end.
        """
        if announced_length(scope) > self._max_bytes:
            raise BodyTooLargeError(self._sentence)
        whole: bytes | bytearray = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece = message.get("body", b"")
            self._is_complete = not message.get("more_body", False)
            self._size += len(piece)
            if self._size > self._max_bytes:
                raise BodyTooLargeError(self._sentence)
            if take is None:
                self._count(len(piece))
            else:
                take(piece)
            if not whole:
                whole = piece
            else:  # one buffer: thousands of tiny objects would take many times their size
                whole = bytearray(whole) if isinstance(whole, bytes) else whole
                whole += piece
            if self._is_complete:
                return bytes(whole)

    async def read_among(
        self, unfinished: UnfinishedBodies, address: str, check: SignatureCheck | None, scope: Scope, receive: Receive
    ) -> bytes:
        """The whole body, after ``check``. Until then it counts as unfinished, and other bodies may displace it.

        Raises:
            InvalidSignatureError: the body does not fit its signature.
            BodyGivenUpError: other bodies displaced it. Other errors as in ``read``.
        """
        with unfinished.admit(address) as body:

            def take(piece: bytes) -> None:
                if check is not None:
                    check.add(piece)
                if not self._is_complete:
                    unfinished.hold(body, len(piece))
                    return
                if check is not None:
                    check.verify()
                unfinished.release(body)
                self._count(self._size)

            with suppress(TimeoutError):
                async with body.interruption:
                    return await self.read(scope, receive, take)
        raise BodyGivenUpError

    def _count(self, size: int) -> None:
        self._budget.take(size)
        self._held += size

    async def refuse(self, scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
        """Answer at once, then read and drop the rest: until 2 * ``max_bytes`` have arrived in all, or for 5 s.

        Closing at once would reset the connection, and the sender would not see the answer.
        """
        error.__traceback__ = None  # its frames would keep the body in memory while the rest is dropped
        status, body, headers = render_error(error)
        is_short = b"transfer-encoding" not in scope["named_headers"] and announced_length(scope) <= self._max_bytes
        ends_here = self._is_complete or (is_short and not isinstance(error, BodyGivenUpError))
        close = [] if ends_here or isinstance(error, BodyGivenUpError) else [(b"connection", b"close")]
        length = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": [*length, *headers, *close]})
        await send({"type": "http.response.body", "body": body, "more_body": not ends_here})
        if ends_here:
            return
        allowance = 2 * self._max_bytes - self._size
        self._budget.give_back(self._held)
        self._held = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_LIMIT_S):
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
