"""``POST /api/v1/vapi/webhook``: authenticates, decodes, merges and acknowledges a server message."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping
from typing import Final

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from service.api.body import BoundedBody, ClientGoneError
from service.api.responses import send_answer
from service.api.state import State
from service.calls.stored_call import CallChange, new_token
from service.config import Settings
from service.errors import (
    InvalidMessageError,
    InvalidSignatureError,
    ServiceError,
    StoreUnavailableError,
    TooManyRequestsError,
    UnavailableError,
    UnsupportedEncodingError,
)
from service.store.rate_limit import RateLimit
from service.store.spool import SpoolUnavailableError
from service.vapi.authentication import SignatureCheck
from service.vapi.intake import change_of
from service.vapi.json_checks import TOO_DEEP, NotJSONError
from service.vapi.messages import decode_message
from service.vapi.raw_payload import raw_payload_of
from service.vapi.replies import Reply, find_reply

log = structlog.get_logger(__name__)

PATHS: Final = ("/api/v1/vapi/webhook", "/api/v1/vapi/webhooks/vapi")

DECODED_IN_THREAD_ABOVE_BYTES: Final = 512 * 1024
"""Larger bodies are decoded in a thread, one at a time: a hostile body may need much time and memory."""

MAX_TYPE_LENGTH: Final = 200
"""A longer message type is cut in logs and answers; VAPI's longest has 36 characters."""

REPLY_DELAY_S: Final = 0.05
"""How long a live call's reply waits for the merge, so that the record usually exists when VAPI gets it."""


class _Decoded(msgspec.Struct, frozen=True):
    """What a message means for us. It does not keep the message: its undecoded fields would keep the whole body."""

    message_type: str
    change: CallChange | None
    dropped: int
    """How many fields of an impossible type were left out."""
    reply: Reply | None


class _MergeResult(msgspec.Struct, frozen=True):
    """What became of a message."""

    word: str
    """For metrics and logs: stored, ignored, spooled or failed."""
    error: UnavailableError | None = None
    """Why it could not be stored."""


_STORED: Final = _MergeResult("stored")
_IGNORED: Final = _MergeResult("ignored")


class Webhook:
    """The endpoint as a plain ASGI application: it runs too often for a Request object."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._large_body = asyncio.Lock()
        self._decode_body = decode_body_and_keep if keeps_raw(state.settings) else decode_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = PATHS[0]
        with BoundedBody(self._state.bodies, self._state.settings.max_body_bytes) as incoming:
            waited_s = 0.0
            try:
                check = self._check_headers(scope["named_headers"])
                incoming.is_proven = check is None
                if self._state.rate_limit is not None:
                    waited_s = await self._check_rate(self._state.rate_limit, scope)
                body = await self._read_proven(incoming, check, scope, receive)
            except ClientGoneError:
                return
            except ServiceError as exc:
                limited = self._limit_failed_proofs(scope, exc)
                self._record_refusal(scope, exc, is_proven=incoming.is_proven, is_limited=limited is not None)
                await incoming.refuse(scope, receive, send, limited or exc)
                return
            received_at = time.perf_counter()
            try:
                decoded = await self._decode(body)
                del body  # its memory serves the next request while this one waits for Redis
                # STORE_TIMEOUT_S covers waiting for Redis, also for the rate limit, but not receiving and decoding.
                deadline = time.monotonic() + self._state.settings.store_timeout_s - waited_s
                await self._merge_and_answer(decoded, scope, send, deadline)
            finally:
                self._state.metrics.webhook_duration.add(time.perf_counter() - received_at)

    def _check_headers(self, headers: Mapping[bytes, bytes]) -> SignatureCheck | None:
        """None when the sender is proven; otherwise the check that is left for the body. Raises ServiceError."""
        if b"content-encoding" in headers:
            raise UnsupportedEncodingError("Content-Encoding is not supported; send the body as it is")
        return self._state.proof.verify_headers(headers, time.time())

    def _read_proven(
        self, incoming: BoundedBody, check: SignatureCheck | None, scope: Scope, receive: Receive
    ) -> Awaitable[bytes]:
        """The body of a request that was proved to come from VAPI, by its headers or by ``check``."""
        if check is None:
            return incoming.read(scope, receive)
        address = self._state.addresses.network_of(scope)
        return incoming.read_among(self._state.unproven_bodies, address, check, scope, receive)

    async def _check_rate(self, limit: RateLimit, scope: Scope) -> float:
        """Returns the seconds that the check took. Raises TooManyRequestsError beyond the limit."""
        started = time.monotonic()
        retry_after_s = await limit.retry_after_s(self._state.addresses.network_of(scope))
        if retry_after_s > 0:
            headers = {"Retry-After": str(math.ceil(retry_after_s))}
            raise TooManyRequestsError("Too many webhooks from this address", headers=headers)
        return time.monotonic() - started

    def _limit_failed_proofs(self, scope: Scope, error: ServiceError) -> TooManyRequestsError | None:
        """The error to answer with instead, when too many proofs from this address have failed."""
        if isinstance(error, InvalidSignatureError):
            try:
                self._state.failed_proofs.count(scope, time.monotonic())
            except TooManyRequestsError as limited:
                return limited
        return None

    def _record_refusal(self, scope: Scope, error: ServiceError, *, is_proven: bool, is_limited: bool) -> None:
        """Log and count a request that was refused before it was decoded."""
        metrics = self._state.metrics
        is_logged = is_proven or self._state.refusals.admit(scope, time.monotonic())
        if isinstance(error, InvalidSignatureError):
            metrics.auth_failed(error.reason)
            if is_logged:
                log.warning("webhook.unauthorized", reason=error.reason, address=scope["log"]["address"])
            if not is_limited:
                metrics.webhook_undecoded("unauthorized")
        elif error.status == 503:
            metrics.webhook_undecoded("failed")
            metrics.webhook_refused()

    async def _decode(self, body: bytes) -> _Decoded:
        try:
            if len(body) > DECODED_IN_THREAD_ABOVE_BYTES:
                async with self._large_body:
                    decoded = await asyncio.to_thread(self._decode_body, body)
            else:
                decoded = self._decode_body(body)
        except InvalidMessageError:
            self._state.metrics.webhook_undecoded("invalid")
            raise
        if decoded.dropped:
            self._state.metrics.fields_dropped(decoded.dropped)
        return decoded

    async def _merge_and_answer(self, decoded: _Decoded, scope: Scope, send: Send, deadline: float) -> None:
        """Merge the change, then acknowledge. A reply that a live call waits for is sent within REPLY_DELAY_S."""
        message_type, change, reply = decoded.message_type, decoded.change, decoded.reply
        scope["log"]["type"] = message_type[:MAX_TYPE_LENGTH]
        if change is not None:
            scope["log"]["call_id"] = change.call_id.decode()
        if reply is not None:
            merging = asyncio.ensure_future(self._merge_or_spool(message_type, change, deadline))
            await asyncio.wait((merging,), timeout=REPLY_DELAY_S)
            await send_answer(send, 200, reply.body, content_type=reply.content_type)
            scope["log"]["result"] = (await merging).word
            return
        result = await self._merge_or_spool(message_type, change, deadline)
        scope["log"]["result"] = result.word
        if result.error is None:
            self._state.metrics.webhook_acknowledged()
        elif self._state.settings.store_failure_status == 503:
            self._state.metrics.webhook_refused()
            raise result.error
        await send_answer(send, 200, _acknowledgement(message_type, change))

    async def _merge_or_spool(self, message_type: str, change: CallChange | None, deadline: float) -> _MergeResult:
        """Merge the change, or spool it when Redis cannot take it; count what became of it."""
        metrics = self._state.metrics
        result = _IGNORED
        if change is not None:
            try:
                merged = await self._state.calls.merge(change, deadline=deadline)
            except StoreUnavailableError as exc:
                log.warning("webhook.not_stored", call_id=change.call_id.decode(), cause=exc.reason)
                metrics.store_error()
                result = await self._spool(change, exc)
            else:
                metrics.merged(merged)
                result = _STORED if merged.is_changed else _IGNORED
        metrics.webhook(message_type, result.word)
        return result

    async def _spool(self, change: CallChange, failure: StoreUnavailableError) -> _MergeResult:
        """Store the change on disk because Redis could not take it."""
        if self._state.spool is None:
            return _MergeResult("failed", failure)
        try:
            await self._state.spool.put(change)
        except SpoolUnavailableError as exc:
            log.warning("webhook.not_spooled", call_id=change.call_id.decode(), cause=str(exc))
            return _MergeResult("failed", exc)
        return _MergeResult("spooled")


def decode_body(body: bytes) -> _Decoded:
    """Raises InvalidMessageError."""
    try:
        received = decode_message(body)
        intake = change_of(received, new_token())
        return _Decoded(received.message.type, intake.change, intake.dropped, find_reply(received.message))
    except RecursionError:  # parts that decode_message skipped are decoded a few stack levels deeper
        raise NotJSONError(TOO_DEEP) from None


def keeps_raw(settings: Settings) -> bool:
    """Whether the archive keeps what VAPI sent."""
    return settings.archive_raw_payload and settings.database_url is not None


def decode_body_and_keep(body: bytes) -> _Decoded:
    """As ``decode_body``, with the part of the body that the archive keeps. Raises InvalidMessageError."""
    decoded = decode_body(body)
    if decoded.change is None:
        return decoded
    change = msgspec.structs.replace(decoded.change, raw=raw_payload_of(body))
    return msgspec.structs.replace(decoded, change=change)


def _acknowledgement(message_type: str, change: CallChange | None) -> bytes:
    sentence = msgspec.json.encode(f"Webhook processed: {message_type[:MAX_TYPE_LENGTH]}")
    call_id = b'"%b"' % change.call_id if change is not None else b"null"
    return b'{"success":true,"message":%b,"callId":%b}' % (sentence, call_id)
