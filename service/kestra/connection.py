"""One request to Kestra: to its address, with its credentials; and what every answer of a status means."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from service import __version__
from service.config import Settings
from service.errors import UpstreamError

if TYPE_CHECKING:
    from service.outbound import Failure, HttpAnswer

CONNECT_S: Final = 3.0
POOL_S: Final = 3.0

RETRY_AFTER_S: Final = (0.2, 0.6)
"""The pauses before a GET's second and third attempt."""

MAX_CONNECTIONS: Final = 20

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Kestra 1.x refuses messages above 1 MiB; an execution with the runs and outputs of many tasks is a few of them."""

AGAIN_AFTER: Final[frozenset[int | Failure]] = frozenset(
    {"unreachable", "untrusted", "crowded", "broken", 502, 503, 504}
)

REDIRECTED: Final = "Kestra's address redirects; KESTRA_URL must be where it leads"
REFUSED: Final = "Kestra refused the credentials; check KESTRA_USERNAME and KESTRA_PASSWORD, or KESTRA_TOKEN"
UNREADABLE: Final = "Kestra's answer cannot be read; check KESTRA_URL"

SENTENCES: Final[Mapping[Failure, str]] = {
    "unreachable": "Kestra cannot be reached; check scheme, host and port of KESTRA_URL",
    "untrusted": "Kestra's certificate is not trusted for the host in KESTRA_URL; SSL_CERT_FILE may name its authority",
    "broken": "Kestra closed the connection without a whole answer; check scheme and port of KESTRA_URL",
    "unreadable": UNREADABLE,
    "too_large": "Kestra's answer is too large",
}

T = TypeVar("T")


class Connection:
    """Sends requests to ``KESTRA_URL`` with its credentials.

    Raises, in every method but ``close``:
        UpstreamError: no answer, or one that means trouble, a redirect or a refusal of our credentials.
            ``is_outcome_unknown`` where Kestra may have done what a POST asks for.

    Args:
        ask_s: longest that a GET may take, its attempts and pauses together.
        write_s: longest that a POST may take.
    """

    def __init__(self, settings: Settings, *, ask_s: float, write_s: float) -> None:
        # Here, because it loads the HTTP client, which takes a third of the start.
        from service.outbound import HttpSession, make_tls  # noqa: PLC0415

        self._ask_s = ask_s
        self._write_s = write_s
        url = urlsplit(settings.kestra_url or "")
        base = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
        headers = {"Accept": "application/json", "User-Agent": f"vapi-cache/{__version__}"}
        self._session = HttpSession(
            "Kestra",
            base,
            make_tls(base),
            headers | _authorization(settings, url),
            sentences=SENTENCES,
            connect_s=CONNECT_S,
            pool_s=POOL_S,
            max_connections=MAX_CONNECTIONS,
            max_answer_bytes=MAX_ANSWER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str) -> HttpAnswer:
        """Tried again where the connection failed and after 502, 503 and 504."""
        answer = await self._session.get(path, within_s=self._ask_s, pauses_s=RETRY_AFTER_S, again_after=AGAIN_AFTER)
        return _usable(answer, is_post=False)

    async def get_once(self, path: str, *, within_s: float) -> HttpAnswer:
        """For whoever is in a hurry."""
        return _usable(await self._session.get(path, within_s=within_s), is_post=False)

    async def post(
        self, path: str, *, labels: Sequence[str] = (), parts: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Sent once. Kestra takes a part with a file name for an upload; without parts its own clients send no body."""
        query = {"labels": labels} if labels else None
        answer = await self._session.send("POST", path, within_s=self._write_s, query=query, parts=parts)
        return _usable(answer, is_post=True)


def decode(answer: HttpAnswer, wanted: type[T], *, is_outcome_unknown: bool = False) -> T:
    """The body as what it should be.

    Raises:
        UpstreamError: it is not.
    """
    try:
        return msgspec.json.decode(answer.body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamError(UNREADABLE, is_outcome_unknown=is_outcome_unknown) from exc


def _authorization(settings: Settings, url: SplitResult) -> dict[str, str]:
    """The header that proves who we are: of the settings, else of the user and password in the URL, if any."""
    if settings.kestra_token is not None:
        return {"Authorization": f"Bearer {settings.kestra_token.reveal()}"}
    username, password = unquote(url.username or ""), unquote(url.password or "")
    if settings.kestra_username and settings.kestra_password:
        username, password = settings.kestra_username, settings.kestra_password.reveal()
    if not username and not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def _usable(answer: HttpAnswer, *, is_post: bool) -> HttpAnswer:
    """Raises what every request makes of such a status, whatever it asked for."""
    status = answer.status
    if 300 <= status < 400:
        raise UpstreamError(REDIRECTED)
    if status in (401, 403):
        raise UpstreamError(REFUSED)
    if status == 503:
        raise UpstreamError("Kestra is not available (503)")
    if status in (502, 504):
        raise UpstreamError(f"The proxy in front of Kestra got no answer ({status})", is_outcome_unknown=is_post)
    if status >= 500:
        raise UpstreamError(f"Kestra is in trouble ({status})", is_outcome_unknown=is_post)
    return answer
