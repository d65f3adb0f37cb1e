"""Asks VAPI for calls whose webhooks are missing. Polls and subscriptions choose them; none waits for the answer."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import msgspec
import structlog

from service.calls.status import DataStatus
from service.calls.stored_call import Merged, StoredCall, Tombstone, UnknownToVapi
from service.config import Settings
from service.errors import InvalidMessageError, ServiceError, StoreUnavailableError, TooManyRequestsError
from service.store.calls import CallStore
from service.store.reconcile_leases import (
    ASK_WITHIN_S,
    PARTIAL_FOR_MS,
    RELEASED_FOR_MS,
    SILENT_FOR_MS,
    TURN_WITHIN_S,
    Kind,
    ReconcileLease,
    ReconcileLeases,
)
from service.vapi.api_call import change_of_api_call
from service.vapi.client import VapiClient

log = structlog.get_logger(__name__)

ReconcileResult = Literal["merged", "unchanged", "missing", "failed"]

MAX_QUEUED: Final = 10_000
"""Calls that may wait in the queue. A further call is dropped; its next poll brings it back."""

MAX_UNKNOWN_QUEUED: Final = MAX_QUEUED // 2
"""Unknown ids get half the queue and come last, so polling made-up ids cannot delay real calls."""

MAX_PLANS: Final = 20_000
"""Calls whose next possible request this process remembers. For other calls Redis decides."""

MAX_WORKERS: Final = 32
"""Requests at once, as many as the client has connections."""

LOOK_AGAIN_S: Final = 5.0
"""How long after it queued a call a parked poll may queue it again: the first pause between two requests for a call."""

SCHEDULED_EVERY_S: Final = 7.0
"""Within this time a subscribed call is scheduled again: its turn comes every 5 s, and sweeps are 1.5 s apart."""

CLOCK_SLACK_MS: Final = 20
"""Error of our estimate of Redis's clock, which decides."""

REST_S: Final = 5.0
"""How long a worker pauses after VAPI answered 429."""

COMPLAIN_EVERY_S: Final = 60.0
"""An outage of VAPI fails each request; it is logged once a minute."""


class _Plan(msgspec.Struct, frozen=True):
    """When VAPI may be asked for a call next, as long as its record is of that kind."""

    kind: Kind
    next_at: float
    """By the loop's clock."""


class Reconciler:
    """Queues calls without delaying their polls, and asks VAPI for those that are due.

    Args:
        now_ms: Redis's clock, as far as this process knows it.
        on_merged: called with the result of each merge.
        on_result: called with the result of each request.
    """

    def __init__(
        self,
        settings: Settings,
        vapi: VapiClient,
        calls: CallStore,
        leases: ReconcileLeases,
        now_ms: Callable[[], int],
        *,
        on_merged: Callable[[Merged], None],
        on_result: Callable[[ReconcileResult], None],
    ) -> None:
        self._pending_ttl_ms = settings.pending_ttl_ms
        self._expects_analysis = settings.expect_analysis
        self._vapi = vapi
        self._calls = calls
        self._leases = leases
        self._now_ms = now_ms
        self._on_merged = on_merged
        self._on_result = on_result
        self._queue: asyncio.PriorityQueue[tuple[bool, int, bytes]] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._taken_up: set[bytes] = set()
        self._scheduled_again: set[bytes] = set()
        self._plans: dict[bytes, _Plan] = {}
        self._complained_at = -math.inf
        self.workers = min(math.ceil(settings.reconcile_per_second), MAX_WORKERS)
        """How many tasks should run ``work``: enough for the rate while VAPI answers within a second."""

    def schedule_if_due(self, call_id: bytes, call: StoredCall | Tombstone | None) -> float:
        """Queue a call, if VAPI may be asked about the record that was just read. Never waits.

        Returns when to call this again, by the loop's clock; infinity: not before the record changes.
        """
        kind, due_in_ms = self._need_of(call)
        if not kind:
            return math.inf
        now = asyncio.get_running_loop().time()
        due_at = now + due_in_ms / 1000
        plan = self._plans.get(call_id)
        if plan is not None and plan.kind == kind:
            due_at = max(due_at, plan.next_at)
        if due_at > now:
            return due_at
        self._queue_up(call_id, is_unknown=kind == "unknown")
        return now + LOOK_AGAIN_S

    def schedule(self, call_id: bytes) -> None:
        """Queue a call; if it is being reconciled now, again when Redis would grant the next lease. Never waits.

        It is not queued again when that takes longer than SCHEDULED_EVERY_S.
        """
        self._queue_up(call_id, is_unknown=False)
        if call_id in self._taken_up:
            self._scheduled_again.add(call_id)

    @property
    def has_waiting(self) -> bool:
        """Whether calls wait in the queue."""
        return not self._queue.empty()

    async def refresh(self, call_id: bytes, on_result: Callable[[ReconcileResult], None]) -> None:
        """Ask VAPI for a complete call, in a turn that the caller reserved."""
        await self._ask(call_id, None, asyncio.get_running_loop().time() + ASK_WITHIN_S, on_result)

    async def work(self) -> None:
        """Reconcile one queued call after the other, until cancelled."""
        while True:
            _, _, call_id = await self._queue.get()
            try:
                await self._reconcile_one(call_id)
            except StoreUnavailableError:
                log.debug("reconciling.waits_for_redis")
            except Exception:
                log.exception("reconciling.broke", call_id=call_id.decode(errors="replace"))
            finally:
                self._taken_up.discard(call_id)
                self._scheduled_again.discard(call_id)

    def _queue_up(self, call_id: bytes, *, is_unknown: bool) -> None:
        most = MAX_UNKNOWN_QUEUED if is_unknown else MAX_QUEUED
        if call_id not in self._taken_up and self._queue.qsize() < most:
            self._taken_up.add(call_id)
            self._queue.put_nowait((is_unknown, next(self._numbers), call_id))

    def _queue_up_in(self, delay_s: float, call_id: bytes) -> None:
        queue_up = partial(self._queue_up, call_id, is_unknown=False)
        asyncio.get_running_loop().call_later(delay_s + CLOCK_SLACK_MS / 1000, queue_up)

    def _need_of(self, call: StoredCall | Tombstone | None) -> tuple[Kind, int]:
        """The kind of the record, and in how many ms VAPI may be asked; ask_vapi.lua uses the same bounds."""
        if call is None or isinstance(call, UnknownToVapi):
            return "unknown", 0
        if isinstance(call, Tombstone) or call.data_status >= DataStatus.COMPLETE:
            return "", 0
        passed_ms = self._now_ms() - CLOCK_SLACK_MS
        if call.data_status == DataStatus.PARTIAL:
            return "partial", call.over_at_ms + PARTIAL_FOR_MS - passed_ms
        return "pending", call.expires_at_ms - self._pending_ttl_ms + SILENT_FOR_MS - passed_ms

    async def _reconcile_one(self, call_id: bytes) -> None:
        """Claim the call, wait for our turn, and ask, all before the claim's lease ends."""
        lease_ends_at = asyncio.get_running_loop().time() + ASK_WITHIN_S
        claim = await self._leases.claim(call_id)
        self._plan(call_id, claim.kind, claim.next_in_s)
        if call_id in self._scheduled_again and claim.next_in_s is not None and claim.next_in_s < SCHEDULED_EVERY_S:
            self._queue_up_in(claim.next_in_s, call_id)
        if not claim.is_granted:
            return
        turn_in_s = await self._leases.reserve_turn()
        if turn_in_s is None:
            await self._leases.release(call_id, claim)
            self._plan(call_id, claim.kind, RELEASED_FOR_MS / 1000)
            await asyncio.sleep(TURN_WITHIN_S)
            return
        await asyncio.sleep(turn_in_s)
        await self._ask(call_id, claim, lease_ends_at, self._on_result)

    async def _ask(
        self, call_id: bytes, claim: ReconcileLease | None, ends_at: float, on_result: Callable[[ReconcileResult], None]
    ) -> None:
        """Ask VAPI and merge its answer. Without a claim the record is complete, and a 404 is not noted."""
        try:
            async with asyncio.timeout_at(ends_at):
                body = await self._vapi.get_call(call_id.decode())
        except (ServiceError, TimeoutError) as error:
            on_result("failed")
            self._complain(error)
            if isinstance(error, TooManyRequestsError):
                await asyncio.sleep(REST_S)
            return
        on_result(await self._apply(call_id, claim, body))

    async def _apply(self, call_id: bytes, claim: ReconcileLease | None, body: bytes | None) -> ReconcileResult:
        """Merge VAPI's answer as an event; ``body`` is None after a 404."""
        if body is None:
            if claim is not None and await self._leases.note_missing(call_id, claim):
                log.info("call.unknown_to_vapi", call_id=call_id.decode())
            return "missing"
        try:
            change = change_of_api_call(body, expects_analysis=self._expects_analysis)
        except InvalidMessageError as error:
            self._complain(error)
            return "failed"
        if change.call_id != call_id:
            self._complain(InvalidMessageError("VAPI answered with another call"))
            return "failed"
        merged = await self._calls.merge(change)
        self._on_merged(merged)
        if not merged.is_changed:
            return "unchanged"
        if claim is None:
            log.info("call.refreshed", call_id=call_id.decode())
        else:
            log.info("call.reconciled", call_id=call_id.decode(), was=claim.kind)
        return "merged"

    def _plan(self, call_id: bytes, kind: Kind, next_in_s: float | None) -> None:
        self._plans.pop(call_id, None)
        if next_in_s is None:
            return
        self._plans[call_id] = _Plan(kind, asyncio.get_running_loop().time() + next_in_s)
        if len(self._plans) > MAX_PLANS:
            del self._plans[next(iter(self._plans))]

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            log.warning("reconciling.failed", error=str(error) or type(error).__name__)
