"""HTTP requests to VAPI and Kestra, with limits for time and size, and a mark for an unknown outcome."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, Literal, NamedTuple

import httpx2

from service.errors import UpstreamError

Failure = Literal["unreachable", "untrusted", "crowded", "silent", "broken", "unreadable", "too_large"]
Reasons = Container[int | Failure]
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
"""Error messages when there is no answer. "untrusted" concerns a certificate, "unreadable" compressed bytes."""

TRACE_CONTEXT: Final[ContextVar[tuple[tuple[str, str], ...]]] = ContextVar("trace_context", default=())
"""Headers with which others continue the trace of the request that is being answered; none without tracing."""


class HttpAnswer(NamedTuple):
    """An answer of any status. The body of an unsuccessful one may be cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class HttpSession:
    """Sends requests to one address. It follows no redirects, because the headers hold credentials for this address.

    ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` apply to https. Requests to an http address go there directly.

    Raises, in ``get`` and ``send``:
        UpstreamError: there was no complete answer ``within_s``. ``is_outcome_unknown`` is True only after ``send``, if
            the request may have arrived.

    Args:
        tls: the context of another session with this url; loading all trusted authorities takes 20 ms.
        sentences: replace those in SENTENCES.
        connect_s: longest wait for a connection; TLS may take the same time again.
        pool_s: longest wait for one of ``max_connections``.
        max_answer_bytes: a successful answer with a longer body is an error; None leaves the bodies of answers unread.
        max_refusal_bytes: the body of an unsuccessful answer is cut here; 0 leaves it unread.
        keeps_connections: keep them for later requests. The other side may close a kept connection while we write to
            it; then we do not know whether it carried out the request.
        uses_proxies: False for ``post_to``: a proxy would look the host up again.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        *,
        tls: ssl.SSLContext | None = None,
        sentences: Mapping[Failure, str] = SENTENCES,
        connect_s: float = 3.0,
        pool_s: float = 3.0,
        max_connections: int,
        max_answer_bytes: int | None,
        max_refusal_bytes: int = 0,
        keeps_connections: bool = False,
        uses_proxies: bool = True,
    ) -> None:
        self._url = url.rstrip("/")
        self._sentences = {failure: text.format(name=name) for failure, text in {**SENTENCES, **sentences}.items()}
        self._max_answer_bytes = max_answer_bytes
        self._max_refusal_bytes = max_refusal_bytes
        is_https = httpx2.URL(url).scheme == "https"
        self.tls = (tls or httpx2.create_ssl_context()) if is_https else None
        kept = max_connections if keeps_connections else 0
        self._client = httpx2.AsyncClient(
            headers={key.encode(): value.encode() for key, value in {"Accept-Encoding": "identity", **headers}.items()},
            # With a limit for each read, a slow answer could take for ever. One deadline covers the whole request.
            timeout=httpx2.Timeout(None, connect=connect_s, pool=pool_s),
            # A receiver that sets new ones each time would get more with every request, until it refuses them all.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=kept),
            follow_redirects=False,
            trust_env=is_https and uses_proxies,
            verify=self.tls or False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(
        self,
        path: str,
        query: Query | None = None,
        *,
        within_s: float,
        pauses_s: Sequence[float] = (),
        again_after: Reasons = (),
    ) -> HttpAnswer:
        """Send a GET. It is sent again after each pause while the last status or failure is in ``again_after``."""
        request = self._client.build_request("GET", self._url + path, params=query)
        request.headers.update(TRACE_CONTEXT.get())
        async with self._bounded(within_s, _Progress()):
            for pause_s in pauses_s:
                answer = await self._find_answer(request, again_after)
                if answer is not None:
                    return answer
                await asyncio.sleep(pause_s)
            return await self._attempt(request)

    async def send(self, method: str, path: str, *, within_s: float, **content: Any) -> HttpAnswer:
        """Send a request that may change something; never repeated. ``content`` goes to httpx2's ``build_request``."""
        return await self._send(self._client.build_request(method, self._url + path, **content), within_s)

    async def post_to(
        self, address: str, path: str, *, within_s: float, headers: Mapping[str, str], content: bytes
    ) -> HttpAnswer:
        """POST to this address, without another look-up of the host. TLS still checks the certificate for the host."""
        url = httpx2.URL(self._url + path)
        request = self._client.build_request(
            "POST",
            url.copy_with(host=address),
            headers={**headers, "Host": url.netloc.decode()},
            content=content,
            extensions={"sni_hostname": url.host},
        )
        return await self._send(request, within_s)

    async def _send(self, request: httpx2.Request, within_s: float) -> HttpAnswer:
        progress = _Progress()
        request.extensions["trace"] = progress
        request.headers.update(TRACE_CONTEXT.get())
        async with self._bounded(within_s, progress):
            return await self._attempt(request)

    @asynccontextmanager
    async def _bounded(self, within_s: float, progress: _Progress) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(within_s):
                yield
        except (TimeoutError, httpx2.HTTPError, _TooLargeError) as exc:
            # The exception's own text may contain an address or a header.
            raise UpstreamError(self._sentences[_failure_of(exc)], is_outcome_unknown=progress.is_begun) from exc

    async def _find_answer(self, request: httpx2.Request, again_after: Reasons) -> HttpAnswer | None:
        """The answer; None when the request should be sent again."""
        try:
            answer = await self._attempt(request)
        except httpx2.HTTPError as exc:
            if _failure_of(exc) in again_after:
                return None
            raise
        return None if answer.status in again_after else answer

    async def _attempt(self, request: httpx2.Request) -> HttpAnswer:
        async with aclosing(await self._client.send(request, stream=True)) as response:
            is_read = response.is_success and self._max_answer_bytes is not None
            if is_read and response.headers.get("content-encoding", "identity") != "identity":
                raise httpx2.DecodingError("compressed, though we asked for plain bytes")
            return HttpAnswer(response.status_code, response.headers, await self._read(response))

    async def _read(self, response: httpx2.Response) -> bytes:
        if self._max_answer_bytes is None:
            return b""
        enough = self._max_answer_bytes + 1 if response.is_success else self._max_refusal_bytes
        body = bytearray()
        async with aclosing(response.aiter_raw()) as pieces:
            while len(body) < enough and (piece := await anext(pieces, b"")):
                body += piece
        if len(body) > self._max_answer_bytes:
            raise _TooLargeError
        return bytes(body)


class _Progress:
    """Watches a request. ``is_begun``: it may have reached the other side. A CONNECT to a proxy does not count."""

    is_begun = False

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started") and details["request"].method != b"CONNECT":
            self.is_begun = True


class _TooLargeError(Exception):
    pass


def _failure_of(exc: Exception) -> Failure:
    if isinstance(exc, TimeoutError):
        return "silent"
    if isinstance(exc, _TooLargeError):
        return "too_large"
    if isinstance(exc, httpx2.DecodingError):
        return "unreadable"
    if isinstance(exc, httpx2.PoolTimeout):
        return "crowded"
    if not isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
        return "broken"
    reason: BaseException | None = exc
    while reason is not None and not isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.__cause__ or reason.__context__
    return "unreachable" if reason is None else "untrusted"
