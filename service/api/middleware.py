"""Wraps every request: sets its id and the common headers, renders errors, writes one access line."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import docs, ops
from service.api.auth import Access
from service.api.responses import render_error, send_answer
from service.api.state import State
from service.errors import ForbiddenError, ServiceError
from service.headers import NO_STORE, RETRY_AFTER_1_S, by_name, request_id_of
from service.log import AccessLog
from service.urls import is_loopback, is_own_host

log = structlog.get_logger("access")

UNMATCHED: Final = "unmatched"
"""The route name in logs and metrics for a path that we do not serve. Callers choose paths; labels must be ours."""

_LOGGED_SELDOM: Final = frozenset(
    (UNMATCHED, "/", "/openapi.json", docs.ROUTE, docs.FILE_ROUTE, ops.ROUTE, ops.FILE_ROUTE)
)
"""Routes open to everybody that no program asks for often: strangers cannot fill the log through them."""

_CLOSE: Final = (b"connection", b"close")


class RequestMiddleware:
    """The outermost layer. It shares with what is inside it, in the scope:

    - ``named_headers``: the request's headers by name;
    - ``route_path``: the route's name, which the endpoint sets;
    - ``log``: the fields of the access line. A ``wait_s`` among them marks a long poll, whose duration is not counted;
    - ``is_left_out_of_log``: set by RefusalLog for a request that gets no line.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state
        self._log = AccessLog()
        settings = state.settings
        self._is_guarded = settings.is_open and not settings.allow_unauthenticated
        self._own_host = settings.host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        raw_path: bytes = scope["raw_path"]
        if raw_path.endswith(b"/") or raw_path.startswith(b"//"):
            # People configure VAPI and Kestra, and neither retries a 404: an extra slash must not lose a result.
            scope["raw_path"] = b"/" + raw_path.strip(b"/")
            scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        headers = scope["named_headers"] = by_name(scope["headers"])
        request_id = request_id_of(headers)
        fields: dict[str, Any] = {"method": scope["method"], "request_id": request_id.decode()}
        scope["log"] = fields
        status = 0

        def send_with_common_headers(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers_sent = [*message["headers"], (b"x-request-id", request_id), NO_STORE]
                if status == 503:
                    headers_sent.append(RETRY_AFTER_1_S)
                if self._state.shutdown.has_begun:
                    headers_sent.append(_CLOSE)
                message["headers"] = headers_sent
            return send(message)

        try:
            if self._is_guarded:
                self._refuse_strangers(scope, headers)
            await self._app(scope, receive, send_with_common_headers)
        except (ServiceError, HTTPException) as exc:
            if status:
                raise
            await _send_error(send_with_common_headers, exc)
        except Exception:
            if status:
                raise
            log.exception("request.failed", request_id=request_id.decode())
            await _send_error(send_with_common_headers, ServiceError("Internal server error"))
        finally:
            seconds = time.perf_counter() - started
            route = scope.get("route_path", UNMATCHED)
            if "wait_s" not in fields:  # a long poll takes as long as its caller asked for
                self._state.metrics.request(route, seconds)
            fields["route"], fields["status"], fields["duration_ms"] = route, status, round(seconds * 100_000) / 100
            # A page for people that a stranger got is logged as seldom as a refusal.
            if route in _LOGGED_SELDOM and self._state.tokens.access_of(headers) is Access.OPEN:
                self._state.refusals.admit(scope, time.monotonic())
            if "is_left_out_of_log" not in scope:
                self._log.finished(fields, is_routine=route.startswith("/health"))

    def _refuse_strangers(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """While no credentials are set, serve only this machine's programs: no proxy's clients, no web page's scripts.

        A web page whose host name resolves to 127.0.0.1 (DNS rebinding) sends no ``Origin``, but its name in ``Host``.
        """
        if scope["path"].startswith("/health"):
            return
        origin = headers.get(b"origin")
        is_foreign = origin is not None and not _is_own(origin, scope["server"][1])
        if is_foreign or any(name == b"forwarded" or name.startswith(b"x-forwarded-") for name in headers):
            sentence = _ANOTHER_MACHINE
        elif all(is_own_host(value, self._own_host) for name, value in scope["headers"] if name == b"host"):
            return
        else:
            sentence = _ANOTHER_NAME
        self._state.refusals.admit(scope, time.monotonic())
        raise ForbiddenError(sentence)


_ANOTHER_MACHINE: Final = (
    "No credentials are configured, so only direct requests from this machine are served: set VAPI_WEBHOOK_SECRET, "
    "API_READ_TOKENS and API_ADMIN_TOKENS (or ALLOW_UNAUTHENTICATED=1)"
)

_ANOTHER_NAME: Final = (
    "No credentials are configured, so only requests to a loopback name such as localhost are served. Where a container "
    "reaches this machine under another name (host.docker.internal), set VAPI_WEBHOOK_SECRET, API_READ_TOKENS and "
    "API_ADMIN_TOKENS (or ALLOW_UNAUTHENTICATED=1)"
)


async def _send_error(send: Send, error: ServiceError | HTTPException) -> None:
    status, body, headers = render_error(error)
    await send_answer(send, status, body, headers)


def _is_own(origin: bytes, port: int) -> bool:
    """True when the origin is this service under a loopback name."""
    try:
        parts = urlsplit(origin.decode("latin-1").lower())
        return parts.scheme == "http" and is_loopback(parts.hostname) and (parts.port or 80) == port
    except ValueError:
        return False
