"""Opens the HTTP session to Kestra, and handles what is common to all its answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from service import __version__
from service.config import Settings
from service.errors import UpstreamError

if TYPE_CHECKING:
    from service.outbound import Failure, HttpAnswer, HttpSession, Reasons

RETRY_PAUSES_S: Final = (0.2, 0.6)
"""Pauses before the second and third attempt of a GET."""

MAX_CONNECTIONS: Final = 20

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Kestra 1.x refuses messages above 1 MiB. An execution with the runs and outputs of many tasks takes a few MiB."""

RETRIED: Final[Reasons] = frozenset({"unreachable", "untrusted", "crowded", "broken", 502, 503, 504})

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


def open_session(settings: Settings) -> HttpSession:
    from service.outbound import HttpSession  # noqa: PLC0415 - loading the HTTP client takes a third of the start

    url = urlsplit(settings.kestra_url or "")
    base = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
    headers = {"Accept": "application/json", "User-Agent": f"vapi-cache/{__version__}", **_authorization(settings, url)}
    return HttpSession(
        "Kestra", base, headers, sentences=SENTENCES, max_connections=MAX_CONNECTIONS, max_answer_bytes=MAX_ANSWER_BYTES
    )


def verify(answer: HttpAnswer, *, is_post: bool = False) -> HttpAnswer:
    """Raises UpstreamError: Kestra is in trouble, redirects, or refuses our credentials."""
    status = answer.status
    if 300 <= status < 400:
        raise UpstreamError("Kestra's address redirects; KESTRA_URL must be where it leads")
    if status in (401, 403):
        raise UpstreamError(REFUSED)
    if status == 503:
        raise UpstreamError("Kestra is not available (503)")
    if status in (502, 504):
        raise UpstreamError(f"The proxy in front of Kestra got no answer ({status})", is_outcome_unknown=is_post)
    if status >= 500:
        raise UpstreamError(f"Kestra is in trouble ({status})", is_outcome_unknown=is_post)
    return answer


def decode(answer: HttpAnswer, wanted: type[T], *, is_outcome_unknown: bool = False) -> T:
    """Raises UpstreamError when the body is not JSON of the wanted type."""
    try:
        return msgspec.json.decode(answer.body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamError(UNREADABLE, is_outcome_unknown=is_outcome_unknown) from exc


def _authorization(settings: Settings, url: SplitResult) -> dict[str, str]:
    """The Authorization header, from the settings or else from the user and password in the URL; else empty."""
    if settings.kestra_token is not None:
        return {"Authorization": f"Bearer {settings.kestra_token.reveal()}"}
    username, password = unquote(url.username or ""), unquote(url.password or "")
    if settings.kestra_username and settings.kestra_password:
        username, password = settings.kestra_username, settings.kestra_password.reveal()
    if not username and not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}
