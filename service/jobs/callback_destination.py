"""Sends the callbacks of one origin: signed, to an address that was checked, and not while the origin is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from service.callback_url import CallbackUrl, CallbackUrlError, is_allowed, parse_callback_url
from service.calls.record import LARGE_OF_VIEW, render_record
from service.calls.stored_call import StoredCall, Tombstone
from service.config import Settings
from service.errors import ArchiveUnavailableError, UpstreamError
from service.jobs.backoff import Backoff
from service.jobs.leased_tries import LeasedTries
from service.name_lookup import NameLookup
from service.standard_webhooks import decode_secret, signed_headers
from service.store.calls import CallStore
from service.store.keys import HELD_FOR_MS
from service.store.subscriptions import SubscriptionStore, TryClaim, TryResult

if TYPE_CHECKING:
    from service.outbound import HttpAnswer, HttpSession

log = structlog.get_logger(__name__)

TRY_WITHIN_S: Final = 10.0
"""Longest duration of one try, from reading the record to the head of the answer."""

LEASE_MS: Final = 15_000
"""The rest of the lease is for recording the result."""

MAX_CONCURRENT: Final = 2
"""Tries at once per origin and process."""

PATHS_REMEMBERED: Final = 1_000
"""Resting paths of an origin. The one that rests longest is forgotten, and tried."""

AWAY_STATUSES: Final = frozenset({429, 502, 503, 504})
"""With these answers nobody behind the path takes callbacks now. Any other failure concerns one callback."""

NOT_FOUND: Final = b'{"success":false,"error":"Call result not found","call_id":"%b"}'
"""The call was deleted, or VAPI does not know it. What a poll gets, and the call's id: a callback has no path."""


FindArchived = Callable[[bytes, StoredCall | Tombstone | None], Awaitable[StoredCall | Tombstone | None]]
"""Completes what Redis has of a call by what the archive has. Raises ArchiveUnavailableError."""


class Destination(LeasedTries):
    """The callbacks to one origin. A path that does not answer delays no other: many receivers may share the origin."""

    event = "callback"
    max_concurrent = MAX_CONCURRENT
    max_backoff_s = 600.0

    def __init__(
        self,
        origin: str,
        settings: Settings,
        store: SubscriptionStore,
        calls: CallStore,
        open_session: Callable[[str], HttpSession],
        on_result: Callable[[TryResult], None],
        find_archived: FindArchived | None = None,
    ) -> None:
        super().__init__(store, on_result)
        self._find_archived = find_archived
        self._origin = origin
        self._prefixes = prefixes_of(settings)
        self._keys = [decode_secret(secret.reveal()) for secret in settings.callback_secret]
        self._calls = calls
        self._open_session = open_session
        self._session: HttpSession | None = None
        self._lookup = NameLookup()
        self._backoff = Backoff()
        self._path_backoffs: dict[str, Backoff] = {}

    def ids_of(self, claim: TryClaim) -> dict[str, str]:
        return {
            "call_id": claim.call_id.decode(errors="replace"),
            "callback": claim.subscriber.decode(errors="replace"),
            "origin": self._origin,
        }

    async def until_ready(self) -> None:
        # A try that is still under way may lengthen the rest.
        while (left_s := self._backoff.left_s) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)

    def pause_after(self, claim: TryClaim) -> float:
        rest = self._path_backoffs.get(path_of(claim))
        return rest.left_s + 0.01 if rest and rest.left_s > 0 else super().pause_after(claim)

    def note_expired(self, count: int) -> None:
        for _ in range(count):
            self._on_result("dropped")
        if count:
            log.warning("callback.dropped", reason="undelivered for too long", origin=self._origin, count=count)

    async def attempt(self, claim: TryClaim) -> TryResult:
        try:
            url = parse_callback_url(claim.purpose.decode())
        except CallbackUrlError:
            return self._drop(claim, "the URL cannot be read")
        if url.origin != self._origin or not is_allowed(url, self._prefixes):
            return self._drop(claim, "CALLBACK_ALLOWED_PREFIXES no longer allows it")
        rest = self._path_backoffs.get(path_of(claim))
        if rest is not None and rest.left_s > 0:
            return self._retry(claim, "its path rests")
        try:
            async with asyncio.timeout(TRY_WITHIN_S):
                body = await self._find_body(claim.call_id)
                if body is None:
                    return "retried"
                answer = await self._send(url, claim, body)
        except (UpstreamError, TimeoutError) as exc:
            reason = str(exc) or "The callback's receiver did not answer in time"
            is_reached = isinstance(exc, TimeoutError) or exc.is_outcome_unknown
            self._begin_rest(claim if is_reached else None, reason)
            return self._retry(claim, reason)
        reason = f"it answered {answer.status}"
        if answer.status in AWAY_STATUSES:
            self._begin_rest(claim, reason)
            return self._retry(claim, reason)
        self._end_rest(claim)
        if answer.is_success:
            log.info("callback.delivered", tries=claim.number, **self.ids_of(claim))
            return "delivered"
        if answer.status == 410:
            return self._drop(claim, "the receiver answered 410")
        return self._retry(claim, reason)

    async def close(self) -> None:
        await super().close()
        if self._session is not None:
            await self._session.close()

    async def _find_body(self, call_id: bytes) -> bytes | None:
        """What a poll would get; None while the record is not final, as after a failover that lost an event, or while
        the archive is away that may have it.
        """
        call = await self._calls.find(call_id, LARGE_OF_VIEW["summary"])
        if self._find_archived is not None:
            try:
                call = await self._find_archived(call_id, call)
            except ArchiveUnavailableError:
                return None
        if not isinstance(call, StoredCall):
            return NOT_FOUND % call_id
        if not call.is_final:
            return None
        return b'{"success":true,"data":%b}' % render_record(call, "summary")

    async def _send(self, url: CallbackUrl, claim: TryClaim, body: bytes) -> HttpAnswer:
        """POST to the first address that takes a connection."""
        if self._session is None:
            self._session = self._open_session(self._origin)
        headers = {
            "content-type": "application/json",
            **signed_headers(self._keys, message_id_of(claim), _now_s(), body),
        }
        addresses = await self._lookup.find_addresses(url)
        for address in addresses[:-1]:
            try:
                return await self._post(self._session, address, url, headers, body)
            except UpstreamError as exc:
                if exc.is_outcome_unknown:
                    raise
        return await self._post(self._session, addresses[-1], url, headers, body)

    async def _post(
        self, session: HttpSession, address: str, url: CallbackUrl, headers: Mapping[str, str], body: bytes
    ) -> HttpAnswer:
        return await session.post_to(address, url.target, within_s=TRY_WITHIN_S, headers=headers, content=body)

    def _drop(self, claim: TryClaim, reason: str) -> TryResult:
        log.warning("callback.dropped", reason=reason, tries=claim.number, **self.ids_of(claim))
        return "dropped"

    def _retry(self, claim: TryClaim, reason: str) -> TryResult:
        if claim.tried_for_ms >= HELD_FOR_MS:
            return self._drop(claim, "undelivered for too long")
        log.debug("callback.retried", reason=reason, tries=claim.number, **self.ids_of(claim))
        return "retried"

    def _begin_rest(self, claim: TryClaim | None, reason: str) -> None:
        """Send nothing for a while: to the path of the claim, or to the origin without one.

        Logged once when an outage begins and once when it ends.
        """
        if not (self._backoff.failures or self._path_backoffs):
            log.warning("callback_origin.failed", origin=self._origin, reason=reason)
        if claim is None:
            self._backoff.begin()
            return
        self._backoff = Backoff()
        path = path_of(claim)
        if path not in self._path_backoffs and len(self._path_backoffs) >= PATHS_REMEMBERED:
            del self._path_backoffs[next(iter(self._path_backoffs))]
        self._path_backoffs.setdefault(path, Backoff()).begin()

    def _end_rest(self, claim: TryClaim) -> None:
        was_away = self._backoff.failures or self._path_backoffs
        self._backoff = Backoff()
        self._path_backoffs.pop(path_of(claim), None)
        if was_away and not self._path_backoffs:
            log.info("callback_origin.recovered", origin=self._origin)


def path_of(claim: TryClaim) -> str:
    """The URL without its query."""
    return claim.purpose.decode(errors="replace").partition("?")[0]


def prefixes_of(settings: Settings) -> list[CallbackUrl]:
    return [parse_callback_url(prefix) for prefix in settings.callback_allowed_prefixes]


def message_id_of(claim: TryClaim) -> str:
    """The same for all tries of one subscription, and for no other."""
    subscription = b"%b %b %d" % (claim.call_id, claim.subscriber, claim.subscribed_at_ms)
    return "msg_" + sha256(subscription).hexdigest()[:32]


def _now_s() -> int:
    return int(time.time())
