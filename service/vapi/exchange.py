"""One request to VAPI's API and its answer: how long, how often, how much; and what went wrong, in our words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Container, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import structlog

from service.config import Secret, Settings
from service.errors import UpstreamError
from service.vapi.api_errors import Answer

log = structlog.get_logger(__name__)

CONNECT_S: Final = 1.5
"""A connection to VAPI takes 0.2 s; the second try of a question must still fit into its time."""

POOL_S: Final = 2.0
"""Longest wait for one of our own connections; nothing has been written by then."""

RETRY_PAUSE_S: Final = 0.1

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""The longest calls that VAPI allows give about 10 MB."""

MAX_REFUSAL_BYTES: Final = 64 * 1024
"""Where the body of an answer that is no success is cut; VAPI's are below 1 kB."""

MAX_CONNECTIONS: Final = 32

MAX_WRITES: Final = 256
"""Requests under way that change something. VAPI may take seconds for each, and nobody waits longer than POOL_S for a turn."""

WORTH_A_SECOND_TRY: Final = frozenset({502, 503, 504})


class Exchange:
    """Sends requests with our key. Redirects are not followed: the key and the number to dial go to VAPI alone.

    ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` are respected, as everywhere; a loopback address is reached directly.

    Args:
        ask_s: longest that a question may take, its second try included.
        write_s: longest that a request may take that changes something.
    """

    def __init__(self, settings: Settings, api_key: Secret, *, ask_s: float, write_s: float) -> None:
        self._ask_s = ask_s
        self._write_s = write_s
        is_https = urlsplit(settings.vapi_api_url).scheme == "https"
        tls: ssl.SSLContext | bool = httpx2.create_ssl_context() if is_https else False
        options: dict[str, Any] = {
            "base_url": settings.vapi_api_url,
            "headers": {"Authorization": b"Bearer " + api_key.reveal().encode(), "Accept-Encoding": "identity"},
            "follow_redirects": False,
            "trust_env": is_https,
            "verify": tls,
        }
        times = httpx2.Timeout(ask_s, connect=CONNECT_S, pool=POOL_S)
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        self._asking = httpx2.AsyncClient(**options, timeout=times, limits=limits)
        # A kept connection may be closed by VAPI at the moment we write on it: then nobody knows whether it dialled.
        times = httpx2.Timeout(write_s, connect=CONNECT_S, pool=POOL_S)
        limits = httpx2.Limits(max_connections=MAX_WRITES, max_keepalive_connections=0)
        self._writing = httpx2.AsyncClient(**options, timeout=times, limits=limits)

    async def close(self) -> None:
        await self._asking.aclose()
        await self._writing.aclose()

    async def ask(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        again_after: Container[int] = WORTH_A_SECOND_TRY,
    ) -> Answer:
        """A GET; where VAPI or the network stumbles it is sent a second time, both within ``ask_s``.

        Args:
            path: below ``VAPI_API_URL``.
            query: its parameters.
            again_after: the statuses that count as a stumble; a broken connection always does.

        Raises:
            UpstreamError: no readable answer in time.
        """
        try:
            async with asyncio.timeout(self._ask_s):
                answer = await self._try_to_ask(path, query)
                if answer is None or answer.status in again_after:
                    await asyncio.sleep(RETRY_PAUSE_S)
                    answer = await _send(self._asking, self._asking.build_request("GET", path, params=query))
                return answer
        except (TimeoutError, httpx2.TransportError, _UnreadableError) as exc:
            raise UpstreamError(_sentence_of(exc)) from exc

    async def _try_to_ask(self, path: str, query: Mapping[str, str] | None) -> Answer | None:
        try:
            return await _send(self._asking, self._asking.build_request("GET", path, params=query))
        except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout):
            return None

    async def write(self, method: str, path: str, body: bytes) -> Answer:
        """A request that changes something at VAPI: sent once, over a connection of its own, never repeated.

        Raises:
            UpstreamError: no readable answer within ``write_s``; ``is_outcome_unknown`` if any of it may have left.
        """
        progress = _Progress()
        request = self._writing.build_request(
            method, path, content=body, headers={"Content-Type": "application/json"}, extensions={"trace": progress}
        )
        try:
            async with asyncio.timeout(self._write_s):
                return await _send(self._writing, request)
        except (TimeoutError, httpx2.TransportError, _UnreadableError) as exc:
            # The exception's own text may hold an address or a header, so only its class is told.
            log.warning("vapi.request_failed", reason=type(exc).__name__, is_outcome_unknown=progress.is_begun)
            raise UpstreamError(_sentence_of(exc), is_outcome_unknown=progress.is_begun) from exc


class _Progress:
    """Watches a request on its way. ``is_begun``: the connection stands, and what follows may reach VAPI.

    What is said to a proxy before that reaches nobody else.
    """

    def __init__(self) -> None:
        self.is_begun = False

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started") and details["request"].method != b"CONNECT":
            self.is_begun = True


class _UnreadableError(Exception):
    """The answer is longer than we take, or packed although we asked for it plain."""


async def _send(client: httpx2.AsyncClient, request: httpx2.Request) -> Answer:
    response = await client.send(request, stream=True)
    try:
        return Answer(response.status_code, response.headers, await _read(response))
    finally:
        await response.aclose()


async def _read(response: httpx2.Response) -> bytes:
    is_success = response.status_code < 300
    if is_success and response.headers.get("content-encoding", "identity") != "identity":
        raise _UnreadableError
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if not is_success and len(body) > MAX_REFUSAL_BYTES:
            break
        if len(body) > MAX_ANSWER_BYTES:
            raise _UnreadableError
    return bytes(body)


def _sentence_of(exc: Exception) -> str:
    if isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return "VAPI cannot be reached"
    if isinstance(exc, httpx2.PoolTimeout):
        return "Too many requests to VAPI are under way here"
    if isinstance(exc, TimeoutError | httpx2.TimeoutException):
        return "VAPI did not answer in time"
    if isinstance(exc, _UnreadableError):
        return "VAPI's answer cannot be read"
    return "The connection to VAPI broke"
