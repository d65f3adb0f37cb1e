"""Places calls, each at most once, even if replies get lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import msgspec
import structlog

from service.calls.call_request import CallRequest
from service.calls.phone import mask_phone
from service.calls.stored_call import CallChange, Merged
from service.config import Settings
from service.errors import ServiceError, StoreUnavailableError, UpstreamError
from service.jobs.deferred_writes import DeferredWrites
from service.jobs.dialer import Dial, Dialer, Method, PlacedCall
from service.kestra.client import KestraClient
from service.store.calls import CallStore
from service.store.idempotency import IdempotencyStore, KeyClaim, create_claim
from service.store.spool import Spool, SpoolUnavailableError
from service.vapi.client import VapiClient

log = structlog.get_logger(__name__)

PlacingResult = Literal["placed", "repeated", "refused", "failed", "unknown"]
"""The result of a request to place a call. Refused: the request is at fault; failed: an error, and the call was not
placed; unknown: an error, and nobody knows whether the call was placed.
"""

CLOSE_S: Final = 1.0
"""Wait for dials under way at shutdown. Together with ``DRAIN_S`` and the server's own grace well below 10 s."""


class Placing:
    """Places calls. A request that is cancelled does not stop its dial: the dial is finished and its answer kept.

    ``on_result`` is called once per request.
    """

    def __init__(
        self,
        settings: Settings,
        vapi: VapiClient | None,
        kestra: KestraClient | None,
        calls: CallStore,
        idempotency: IdempotencyStore,
        *,
        spool: Spool | None = None,
        on_merged: Callable[[Merged], None] = lambda _: None,
        on_result: Callable[[Method, PlacingResult], None] = lambda *_: None,
    ) -> None:
        self._default_method: Method = "kestra" if settings.kestra_enabled else "vapi"
        self._dialer = Dialer(settings, vapi, kestra, self._store)
        self._calls = calls
        self._idempotency = idempotency
        self._spool = spool
        self._on_merged = on_merged
        self._on_result = on_result
        self._deferred = DeferredWrites()
        self._under_way: set[asyncio.Task[PlacedCall]] = set()

    async def place(self, request: CallRequest, method: Method | None = None, *, key: str | None = None) -> PlacedCall:
        """Place the call. Method None means through Kestra with ``KESTRA_ENABLED``, else directly through VAPI.

        Raises:
            InvalidRequestError: we may not dial the number, or VAPI refused the call.
            NotConfiguredError: a variable that this method needs is not set.
            ConflictError, KeyReusedError: see IdempotencyStore.take.
            PaymentRequiredError, TooManyRequestsError, UpstreamError: from VAPI or Kestra.
            StoreUnavailableError: Redis is away; nobody was phoned.
        """
        placing = asyncio.get_running_loop().create_task(
            self._place(request, method or self._default_method, key), name="placing"
        )
        self._under_way.add(placing)
        placing.add_done_callback(self._under_way.discard)
        return await asyncio.shield(placing)

    async def close(self) -> None:
        """Wait a moment for dials under way. Those that are not done then have an unknown outcome."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=CLOSE_S)
            for placing in late:
                placing.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._deferred.close()

    async def _place(self, request: CallRequest, method: Method, key: str | None) -> PlacedCall:
        result: PlacingResult = "unknown"
        phone = mask_phone(request.provider_phone)
        try:
            dial = self._dialer.prepare(request, method)
            if key is None:
                await self._idempotency.verify_writable()
                result, placed = "placed", await dial()
            else:
                claim = create_claim(key, fingerprint_of(request, method))
                result, placed = await self._place_once(claim, dial)
        except ServiceError as exc:
            result = _result_of(exc)
            log.warning("call.not_placed", method=method, phone=phone, result=result, status=exc.status)
            raise
        else:
            log.info("call.placed", phone=phone, result=result, **msgspec.to_builtins(placed))
            return placed
        finally:
            self._on_result(method, result)

    async def _place_once(self, claim: KeyClaim, dial: Dial) -> tuple[PlacingResult, PlacedCall]:
        """Return the first answer if the key has one. Else dial, and keep the answer or free the key."""
        free = partial(self._idempotency.free, claim)
        try:
            answer = await self._idempotency.take(claim)
        except StoreUnavailableError:
            self._deferred.write_later("idempotency-free", free)
            raise
        if answer is not None:
            return "repeated", msgspec.json.decode(answer, type=PlacedCall)
        try:
            placed = await dial()
        except ServiceError as exc:
            if not _is_outcome_unknown(exc):
                await self._deferred.write("idempotency-free", free)
            raise
        keep = partial(self._idempotency.keep, claim, msgspec.json.encode(placed))
        await self._deferred.write("idempotency-answer", keep)
        return "placed", placed

    async def _store(self, change: CallChange) -> None:
        """Create the record. The phone rings already, so a failure is logged and the write is repeated later."""
        try:
            await self._merge(change)
        except StoreUnavailableError as exc:
            log.warning("call.not_stored", call_id=change.call_id.decode(), cause=exc.reason)
            if not await self._is_spooled(change):
                self._deferred.write_later("placed-call", partial(self._merge, change))

    async def _is_spooled(self, change: CallChange) -> bool:
        if self._spool is None:
            return False
        try:
            await self._spool.put(change)
        except SpoolUnavailableError as exc:
            log.warning("call.not_spooled", call_id=change.call_id.decode(), cause=str(exc))
            return False
        return True

    async def _merge(self, change: CallChange) -> None:
        self._on_merged(await self._calls.merge(change))


def fingerprint_of(request: CallRequest, method: Method) -> bytes:
    """The same for every way to write the same request; different for other requests."""
    return hashlib.sha256(msgspec.json.encode((method, request), order="sorted")).hexdigest().encode()


def _is_outcome_unknown(error: ServiceError) -> bool:
    return isinstance(error, UpstreamError) and error.is_outcome_unknown


def _result_of(error: ServiceError) -> PlacingResult:
    if _is_outcome_unknown(error):
        return "unknown"
    return "refused" if error.status < 500 else "failed"
