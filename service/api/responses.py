"""Sends answers: as plain ASGI for webhooks and polls, through Starlette for the rest. Renders all errors."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary, finalize

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import Detail, ServiceError, UnavailableError

JSON: Final = b"application/json"
Headers = Sequence[tuple[bytes, bytes]]

SHARED_ABOVE_BYTES: Final = 64 * 1024
"""Larger bodies are shared by the answers that send them. This is asyncio's high-water mark: above it, bodies wait
in memory for slow clients."""

UNTAKEN_BYTES: Final = 256 * 1024 * 1024
"""Memory for large bodies that are being sent. Without it, 200 clients that did not read their pages held 2 GB."""

_SENTENCES: Final = {404: "Not found", 405: "Method not allowed"}


async def send_answer(
    send: Send, status: int, body: bytes, headers: Headers = (), *, content_type: bytes = JSON
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    if len(body) > SHARED_ABOVE_BYTES:
        # The second send waits until the client has read the body. So the caller keeps a shared body alive until then.
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


async def send_unchanged(send: Send, headers: Headers) -> None:
    """304: the caller's copy is still current."""
    await send({"type": "http.response.start", "status": 304, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})


class SharedBody(msgspec.Struct, eq=False, weakref=True):
    """The bytes of a large body, shared by all answers that are sending it."""

    content: bytes


class SharedBodies:
    """Large bodies by content key, kept while at least one answer sends them.

    Before, 200 clients that did not read a record of 9 MB held a copy each, 1.8 GB in all.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._bodies: WeakValueDictionary[Hashable, SharedBody] = WeakValueDictionary()
        self._held_bytes = 0

    def find(self, key: Hashable) -> SharedBody | None:
        return self._bodies.get(key) if self._held_bytes else None

    def keep(self, key: Hashable, content: bytes) -> SharedBody:
        """Raises UnavailableError when the bodies that are being sent hold UNTAKEN_BYTES already."""
        if self._held_bytes and self._held_bytes + len(content) > UNTAKEN_BYTES:
            raise UnavailableError(
                "Too many large answers wait for clients that do not read them; try again in a second"
            )
        body = self._bodies[key] = SharedBody(content)
        self._count(len(content))
        finalize(body, self._count, -len(content))
        return body

    def _count(self, size: int) -> None:
        self._held_bytes += size

    async def wait_for_turn(self) -> None:
        """Let callers continue one at a time, with other work between two of them.

        Writing the first part of 9 MB takes milliseconds, and one webhook may wake hundreds of polls.
        """
        async with self._turn:
            await asyncio.sleep(0)


class JSONResponse(Response):
    """``{"success": true, ...}`` for the paths that go through Starlette."""

    media_type = "application/json"

    def __init__(self, status_code: int = 200, /, **fields: Any) -> None:
        super().__init__(msgspec.json.encode({"success": status_code < 400, **fields}), status_code)


class LargeResponse(Response):
    """An answer that may be large: while it is being sent, it counts among ``bodies``.

    Answers with the same ``key`` share the bytes.
    """

    def __init__(
        self,
        bodies: SharedBodies,
        content: bytes,
        *,
        key: Hashable = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._bodies = bodies
        self._content = content
        self._media_type = media_type.encode()
        self._fixed_headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        key = object() if key is None else key
        is_large = len(content) > SHARED_ABOVE_BYTES
        self._kept = (bodies.find(key) or bodies.keep(key, content)) if is_large else None

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        if self._kept is not None:
            await self._bodies.wait_for_turn()
        await send_answer(send, 200, self._content, self._fixed_headers, content_type=self._media_type)


def render_error(error: ServiceError | HTTPException) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of an error. The body has a sentence and maybe details, never a value of the request."""
    details: tuple[Detail, ...] = ()
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, _SENTENCES.get(error.status_code, error.detail)
    else:
        status, sentence, details = error.status, str(error), error.details
    body: dict[str, Any] = {"success": False, "error": sentence}
    if details:
        body["details"] = [{"path": detail.path, "message": detail.message} for detail in details]
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return status, msgspec.json.encode(body), headers
