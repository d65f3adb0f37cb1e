"""The part of VAPI's API that we use: calls, recordings, assistants, phone numbers. https://docs.vapi.ai/api-reference"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import structlog

from service.config import Settings
from service.errors import NotConfiguredError, NotFoundError, UpstreamError
from service.urls import is_http_url, path_part
from service.vapi.api_errors import error_of, find_concurrency_refusal, find_json

if TYPE_CHECKING:
    from service.outbound import Failure, HttpAnswer, Query, Reasons

log = structlog.get_logger(__name__)

ASK_S: Final = 4.0
"""Longest time for a GET including its second try. A reconciler leases a call for 5 s."""

CONNECT_S: Final = 1.5
"""Usually 0.2 s. A GET's second try must still fit into ASK_S."""

WRITE_S: Final = 20.0
"""VAPI takes several seconds to start a call. Load balancers in front of us answer 504 after 30 s."""

POOL_S: Final = 2.0
"""Longest wait for a free connection of ours."""

RETRY_PAUSES_S: Final = (0.1,)
"""One second try of a GET."""

RETRIED_WITHOUT_ANSWER: Final[frozenset[int | Failure]] = frozenset({"unreachable", "untrusted", "broken"})

RETRIED: Final = RETRIED_WITHOUT_ANSWER | {502, 503, 504}

MAX_CONNECTIONS: Final = 32

MAX_WRITES: Final = 256
"""Most concurrent requests that change something. VAPI may take seconds for each; more wait up to POOL_S for a turn."""

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
"""The longest calls that VAPI allows take about 10 MB."""

MAX_LIMIT: Final = 1000
"""The most entries that VAPI lists at once."""

MAX_LINK_LENGTH: Final = 8192

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_UNKNOWN_THERE: Final = frozenset({400, 404})
"""VAPI does not know the id. It answers 400 when the id is not a UUID, the form of its own ids."""

_Value = TypeVar("_Value")


class _WithId(msgspec.Struct):
    id: str


class VapiClient:
    """One per process. Every method may be called at any time from any task.

    Raises, in every method:

        InvalidRequestError: a refusal (400, most other 4xx), with VAPI's message.
        PaymentRequiredError: 402.
        TooManyRequestsError: 429, or no free line; with ``Retry-After`` when VAPI gave one.
        UpstreamError: trouble (5xx), silence, a redirect, or a refusal of our key. ``is_outcome_unknown`` is True only
            if a request that changes something may have been carried out.

    Args:
        settings: ``vapi_api_key`` must be set.
        ask_s: longest time for a GET.
        write_s: longest time for a request that changes something.
        connect_s: longest wait for a connection.
    """

    def __init__(
        self, settings: Settings, *, ask_s: float = ASK_S, write_s: float = WRITE_S, connect_s: float = CONNECT_S
    ) -> None:
        # Imported here: the HTTP client takes a third of the start, which a service without a key can save.
        from service.outbound import HttpSession  # noqa: PLC0415

        if settings.vapi_api_key is None:
            raise NotConfiguredError("VAPI_API_KEY is not set")
        self._api_key = settings.vapi_api_key
        self._ask_s = ask_s
        self._write_s = write_s
        session = partial(
            HttpSession,
            "VAPI",
            settings.vapi_api_url,
            {"Authorization": f"Bearer {self._api_key.reveal()}"},
            connect_s=connect_s,
            pool_s=POOL_S,
            max_answer_bytes=MAX_ANSWER_BYTES,
            max_refusal_bytes=64 * 1024,  # VAPI's own are below 1 kB
        )
        self._asking = session(max_connections=MAX_CONNECTIONS, keeps_connections=True)
        self._writing = session(max_connections=MAX_WRITES, tls=self._asking.tls)

    async def close(self) -> None:
        await self._asking.close()
        await self._writing.close()

    async def create_call(self, body: Mapping[str, Any]) -> bytes:
        """Make VAPI dial. Returns the answer as received: a JSON object with an ``id``.

        The request is never repeated after it was written. If this is cancelled, nobody knows whether VAPI dialled.
        """
        answer = await self._write("POST", "/call", body, subject="the call")
        _decode(answer, _WithId, is_write=True)
        refusal = find_concurrency_refusal(answer)
        if refusal is not None:
            raise refusal
        return answer

    async def get_call(self, call_id: str) -> bytes | None:
        """VAPI's answer for the call, as received; None when VAPI does not know the id. Takes at most ``ask_s`` in all.

        An answer that reports trouble is not asked for again, because callers keep to a rate of requests.
        """
        answer = await self._ask(f"/call/{path_part(call_id)}", again_after=RETRIED_WITHOUT_ANSWER)
        return None if answer.status in _UNKNOWN_THERE else self._accepted(answer, "to return the call").body

    async def find_recording_url(self, call_id: str) -> str | None:
        """A new link to the call's recording, valid for about half an hour; None when VAPI has no recording.

        https://docs.vapi.ai/assistants/retrieve-call-artifacts
        """
        answer = await self._ask(f"/call/{path_part(call_id)}/mono-recording")
        if answer.status in _UNKNOWN_THERE:
            return None
        link = answer.headers.get("location", "") if answer.status in _REDIRECTS else ""
        if is_link(link):
            return link
        if answer.status >= 400:
            raise error_of(answer, self._api_key, subject="the recording", is_write=False)
        raise UpstreamError("VAPI gave no usable link to the recording")

    async def get_assistant(self, assistant_id: str) -> dict[str, Any]:
        """Raises NotFoundError when VAPI has no such assistant."""
        answer = await self._ask(f"/assistant/{path_part(assistant_id)}")
        if answer.status in _UNKNOWN_THERE:
            raise NotFoundError("VAPI has no such assistant")
        return _decode(self._accepted(answer, "to return the assistant").body, dict[str, Any])

    async def get_phone_number(self, phone_number_id: str) -> dict[str, Any]:
        """Raises NotFoundError when the account has no such phone number."""
        answer = await self._ask(f"/phone-number/{path_part(phone_number_id)}")
        if answer.status in _UNKNOWN_THERE:
            raise NotFoundError("VAPI has no such phone number")
        return _decode(self._accepted(answer, "to return the phone number").body, dict[str, Any])

    async def list_assistants(self) -> list[dict[str, Any]]:
        """The newest assistants of the account, at most MAX_LIMIT."""
        answer = await self._ask("/assistant", {"limit": str(MAX_LIMIT)})
        return _decode(self._accepted(answer, "the list of assistants").body, list[dict[str, Any]])

    async def create_assistant(self, config: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._write("POST", "/assistant", config, subject="the assistant")
        return _decode(answer, dict[str, Any], is_write=True)

    async def update_assistant(self, assistant_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the top-level fields that are in ``config``; VAPI keeps the others."""
        answer = await self._write("PATCH", f"/assistant/{path_part(assistant_id)}", config, subject="the assistant")
        return _decode(answer, dict[str, Any], is_write=True)

    async def _ask(self, path: str, query: Query | None = None, *, again_after: Reasons = RETRIED) -> HttpAnswer:
        return await self._asking.get(
            path, query, within_s=self._ask_s, pauses_s=RETRY_PAUSES_S, again_after=again_after
        )

    async def _write(self, method: str, path: str, body: Mapping[str, Any], *, subject: str) -> bytes:
        content = {"content": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
        try:
            answer = await self._writing.send(method, path, within_s=self._write_s, **content)
        except UpstreamError as exc:
            reason = type(exc.__cause__).__name__
            log.warning("vapi.request_failed", reason=reason, is_outcome_unknown=exc.is_outcome_unknown)
            raise
        return self._accepted(answer, subject, is_write=True).body

    def _accepted(self, answer: HttpAnswer, subject: str, *, is_write: bool = False) -> HttpAnswer:
        if not answer.is_success:
            raise error_of(answer, self._api_key, subject=subject, is_write=is_write)
        return answer


def is_link(text: str) -> bool:
    """True for an absolute http(s) URL that can go into a header: printable ASCII, at most MAX_LINK_LENGTH."""
    is_plain = text.isascii() and text.isprintable() and " " not in text
    return is_plain and len(text) <= MAX_LINK_LENGTH and is_http_url(text)


def _decode(body: bytes, wanted: type[_Value], *, is_write: bool = False) -> _Value:
    found = find_json(body, wanted)
    if found is None:
        raise UpstreamError("VAPI's answer cannot be read", is_outcome_unknown=is_write)
    return found
