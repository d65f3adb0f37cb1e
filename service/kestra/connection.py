"""One request to Kestra: bounded in time and size, and its failures told apart by what may have happened."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, TypeVar

import httpx2
import msgspec

from service import __version__
from service.config import Settings
from service.errors import UpstreamError

CONNECT_WITHIN_S: Final = 3.0
QUEUE_WITHIN_S: Final = 3.0
"""Waiting for one of MAX_CONNECTIONS. With the connecting (and TLS, which may take as long again) it stays below the time
of a whole request: when that is over, the request was written."""

RETRY_AFTER_S: Final = (0.2, 0.6)
"""The pauses before a GET's second and third attempt."""

MAX_CONNECTIONS: Final = 20

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Kestra 1.x refuses messages above 1 MiB; an execution with the runs and outputs of many tasks is a few of them."""

UNREACHABLE: Final = "Kestra cannot be reached; check scheme, host and port of KESTRA_URL"
UNTRUSTED: Final = (
    "Kestra's certificate is not trusted for the host in KESTRA_URL; SSL_CERT_FILE may name its authority"
)
CROWDED: Final = "Too many requests to Kestra are under way here"
SILENT: Final = "Kestra did not answer in time"
CUT_OFF: Final = "Kestra closed the connection without a whole answer; check scheme and port of KESTRA_URL"
TOO_LARGE: Final = "Kestra's answer is too large"
REDIRECTED: Final = "Kestra's address redirects; KESTRA_URL must be where it leads"
REFUSED: Final = "Kestra refused the credentials; check KESTRA_USERNAME and KESTRA_PASSWORD, or KESTRA_TOKEN"

UNREADABLE: Final = "Kestra's answer cannot be read; check KESTRA_URL"

Parts = Mapping[str, str]
Query = Sequence[tuple[str, str]]
T = TypeVar("T")


class Answer(NamedTuple):
    """An answer of Kestra's that is neither trouble nor a redirect nor a refusal of our credentials."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def decoded(self, wanted: type[T], *, is_outcome_unknown: bool = False) -> T:
        """The body as what it should be.

        Raises:
            UpstreamError: it is not.
        """
        try:
            return msgspec.json.decode(self.body, type=wanted)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise UpstreamError(UNREADABLE, is_outcome_unknown=is_outcome_unknown) from exc


class TransientError(UpstreamError):
    """Trouble after which a GET is worth another attempt."""


class Connection:
    """Sends requests to ``KESTRA_URL`` with its credentials; ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` are respected.

    No connection is kept for the next request: Kestra might close it while we write, and then nobody would know
    whether an execution was created.

    Args:
        ask_s: longest that a GET may take, its attempts and pauses together.
        write_s: longest that a POST may take.
    """

    def __init__(self, settings: Settings, *, ask_s: float, write_s: float) -> None:
        self._ask_s = ask_s
        self._write_s = write_s
        url = httpx2.URL(settings.kestra_url or "")
        self._base = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        self._client = httpx2.AsyncClient(
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"vapi-cache/{__version__}",
                **_authorization(settings, url),
            },
            timeout=httpx2.Timeout(
                None, connect=min(CONNECT_WITHIN_S, write_s / 4), pool=min(QUEUE_WITHIN_S, write_s / 4)
            ),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=url.scheme == "https",
            verify=httpx2.create_ssl_context() if url.scheme == "https" else False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Answer:
        """Tried again where the connection failed and after 502, 503 and 504.

        Raises:
            UpstreamError: no usable answer.
        """
        async with _deadline(self._ask_s, is_outcome_unknown=False):
            for pause_s in RETRY_AFTER_S:
                try:
                    return await self._send("GET", path)
                except TransientError:
                    await asyncio.sleep(pause_s)
            return await self._send("GET", path)

    async def get_once(self, path: str, *, within_s: float) -> Answer:
        """For whoever is in a hurry.

        Raises:
            UpstreamError: no usable answer.
        """
        async with _deadline(within_s, is_outcome_unknown=False):
            return await self._send("GET", path)

    async def post(self, path: str, *, query: Query = (), parts: Parts | None = None) -> Answer:
        """Sent once. The parts go without a file name: Kestra takes one that has a name for an upload.

        Without parts there is no body and no content type, as Kestra's own clients do it.

        Raises:
            UpstreamError: no usable answer; ``is_outcome_unknown`` where Kestra may have done it.
        """
        async with _deadline(self._write_s, is_outcome_unknown=True):
            return await self._send("POST", path, query=query, parts=parts)

    async def _send(
        self, method: Literal["GET", "POST"], path: str, *, query: Query = (), parts: Parts | None = None
    ) -> Answer:
        files = {name: (None, value) for name, value in parts.items()} if parts else None
        is_post = method == "POST"
        try:
            async with self._client.stream(
                method, self._base + path, params=list(query) or None, files=files
            ) as response:
                _verify(response.status_code, is_post=is_post)
                return Answer(response.status_code, await _read(response, is_outcome_unknown=is_post))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as exc:
            raise TransientError(_sentence_of(exc)) from exc
        except httpx2.HTTPError as exc:
            raise TransientError(CUT_OFF, is_outcome_unknown=is_post) from exc


def _authorization(settings: Settings, url: httpx2.URL) -> dict[str, str]:
    """The header that proves who we are: of the settings, else of the user and password in the URL, if any."""
    if settings.kestra_token is not None:
        return {"Authorization": f"Bearer {settings.kestra_token.reveal()}"}
    username, password = url.username, url.password
    if settings.kestra_username and settings.kestra_password:
        username, password = settings.kestra_username, settings.kestra_password.reveal()
    if not username and not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def _sentence_of(exc: httpx2.TransportError) -> str:
    """Why there is no connection; the exception's own text may hold the address."""
    if isinstance(exc, httpx2.PoolTimeout):
        return CROWDED
    reason: BaseException | None = exc
    while reason is not None and not isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.__cause__ or reason.__context__
    return UNREACHABLE if reason is None else UNTRUSTED


@asynccontextmanager
async def _deadline(within_s: float, *, is_outcome_unknown: bool) -> AsyncIterator[None]:
    """One for all reads and writes: an answer that drips in has to end as well."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as exc:
        raise UpstreamError(SILENT, is_outcome_unknown=is_outcome_unknown) from exc


async def _read(response: httpx2.Response, *, is_outcome_unknown: bool) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UpstreamError(TOO_LARGE, is_outcome_unknown=is_outcome_unknown)
    return bytes(body)


def _verify(status: int, *, is_post: bool) -> None:
    """Raises what every request makes of such a status, whatever it asked for."""
    if 300 <= status < 400:
        raise UpstreamError(REDIRECTED)
    if status in (401, 403):
        raise UpstreamError(REFUSED)
    if status == 503:
        raise TransientError("Kestra is not available (503)")
    if status in (502, 504):
        raise TransientError(f"Kestra did not answer what stands before it ({status})", is_outcome_unknown=is_post)
    if status >= 500:
        raise UpstreamError(f"Kestra is in trouble ({status})", is_outcome_unknown=is_post)
