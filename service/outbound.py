"""One bounded HTTP request to somebody else: deadline, size, redirects, "outcome unknown"."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import httpx2

from service.errors import UpstreamError

Failure = Literal["unreachable", "untrusted", "crowded", "silent", "broken", "unreadable", "too_large"]
Query = Mapping[str, str | Sequence[str]]

SENTENCES: Final[Mapping[Failure, str]] = {
    "unreachable": "{name} cannot be reached",
    "untrusted": "{name} cannot be reached",
    "crowded": "Too many requests to {name} are under way here",
    "silent": "{name} did not answer in time",
    "broken": "The connection to {name} broke",
    "unreadable": "{name}'s answer cannot be read",
    "too_large": "{name}'s answer cannot be read",
}
"""What people read when there is no answer. "untrusted" is about a certificate, "unreadable" about compressed bytes."""


class HttpAnswer(NamedTuple):
    """An answer of any status. The body of one that is no success may be cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class HttpSession:
    """Sends requests to one address, with the same headers each time.

    Redirects are not followed, because the headers hold credentials. ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` are
    respected for https; an http address is reached directly.

    Raises, in every method that sends a request:
        UpstreamError: no whole answer in time. ``is_outcome_unknown`` where the other side may have carried it out.

    Args:
        name: whose address it is.
        url: stands before every path.
        tls: from ``make_tls``; sessions with one url may share it.
        headers: of every request.
        sentences: the ones that are not those of SENTENCES.
        connect_s: longest wait for a connection; TLS may take as long again.
        pool_s: longest wait for one of ``max_connections``.
        keeps_connections: for the next request. The other side may close a kept connection while we write on it, and
            then nobody knows whether the request was carried out.
        max_answer_bytes: longest body of a success.
        max_refusal_bytes: where the body of any other answer is cut; 0 means that it is not read at all.
    """

    def __init__(
        self,
        name: str,
        url: str,
        tls: ssl.SSLContext | None,
        headers: Mapping[str, str],
        *,
        sentences: Mapping[Failure, str] = SENTENCES,
        connect_s: float,
        pool_s: float,
        max_connections: int,
        max_answer_bytes: int,
        max_refusal_bytes: int = 0,
        keeps_connections: bool = False,
    ) -> None:
        self._url = url.rstrip("/")
        self._sentences = {failure: text.format(name=name) for failure, text in {**SENTENCES, **sentences}.items()}
        self._max_answer_bytes = max_answer_bytes
        self._max_refusal_bytes = max_refusal_bytes
        plain = {"Accept-Encoding": "identity", **headers}
        kept = max_connections if keeps_connections else 0
        self._client = httpx2.AsyncClient(
            headers={name.encode(): value.encode() for name, value in plain.items()},
            # A limit for each read would let an answer drip in for ever: one deadline bounds them all.
            timeout=httpx2.Timeout(None, connect=connect_s, pool=pool_s),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=kept),
            follow_redirects=False,
            trust_env=tls is not None,
            verify=tls or False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(
        self,
        path: str,
        *,
        within_s: float,
        query: Query | None = None,
        pauses_s: Sequence[float] = (),
        again_after: Container[int | Failure] = (),
    ) -> HttpAnswer:
        """Another attempt follows after each pause, if the status or failure is in ``again_after``; all ``within_s``."""
        request = self._client.build_request("GET", self._url + path, params=query or None)
        async with self._bounded(within_s, _Progress()):
            for pause_s in pauses_s:
                answer = await self._find_answer(request, again_after)
                if answer is not None:
                    return answer
                await asyncio.sleep(pause_s)
            return await self._attempt(request)

    async def send(
        self,
        method: Literal["POST", "PATCH"],
        path: str,
        *,
        within_s: float,
        query: Query | None = None,
        json: bytes | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Sent once, never repeated. ``parts`` go as multipart/form-data, without file names."""
        progress = _Progress()
        request = self._client.build_request(
            method,
            self._url + path,
            params=query or None,
            content=json,
            headers={"Content-Type": "application/json"} if json is not None else None,
            files={name: (None, value) for name, value in parts.items()} if parts else None,
            extensions={"trace": progress},
        )
        async with self._bounded(within_s, progress):
            return await self._attempt(request)

    @asynccontextmanager
    async def _bounded(self, within_s: float, progress: _Progress) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(within_s):
                yield
        except (TimeoutError, httpx2.HTTPError, _UnfitError) as exc:
            # The exception's own text may hold an address or a header.
            raise UpstreamError(self._sentences[_failure_of(exc)], is_outcome_unknown=progress.is_begun) from exc

    async def _find_answer(self, request: httpx2.Request, again_after: Container[int | Failure]) -> HttpAnswer | None:
        """None where another attempt is worth it."""
        try:
            answer = await self._attempt(request)
        except httpx2.HTTPError as exc:
            if _failure_of(exc) in again_after:
                return None
            raise
        return None if answer.status in again_after else answer

    async def _attempt(self, request: httpx2.Request) -> HttpAnswer:
        async with aclosing(await self._client.send(request, stream=True)) as response:
            return HttpAnswer(response.status_code, response.headers, await self._read(response))

    async def _read(self, response: httpx2.Response) -> bytes:
        if response.is_success and response.headers.get("content-encoding", "identity") != "identity":
            raise _UnfitError("unreadable")
        body = bytearray()
        if response.is_success or self._max_refusal_bytes:
            async for piece in response.aiter_raw():
                body += piece
                if not response.is_success and len(body) > self._max_refusal_bytes:
                    break
                if len(body) > self._max_answer_bytes:
                    raise _UnfitError("too_large")
        return bytes(body)


def make_tls(url: str) -> ssl.SSLContext | None:
    """None for an http address. It takes 20 ms to read all the authorities that are trusted."""
    return httpx2.create_ssl_context() if urlsplit(url).scheme == "https" else None


class _Progress:
    """Watches a request on its way. ``is_begun``: the connection stands, and what follows may reach the other side.

    What is said to a proxy before that reaches nobody else.
    """

    def __init__(self) -> None:
        self.is_begun = False

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started") and details["request"].method != b"CONNECT":
            self.is_begun = True


class _UnfitError(Exception):
    """An answer that we do not read."""

    def __init__(self, failure: Literal["too_large", "unreadable"]) -> None:
        super().__init__(failure)
        self.failure = failure


def _failure_of(exc: Exception) -> Failure:
    if isinstance(exc, _UnfitError):
        return exc.failure
    if isinstance(exc, TimeoutError):
        return "silent"
    if isinstance(exc, httpx2.PoolTimeout):
        return "crowded"
    if not isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return "broken"
    reason: BaseException | None = exc
    while reason is not None and not isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.__cause__ or reason.__context__
    return "unreachable" if reason is None else "untrusted"
