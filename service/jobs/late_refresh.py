"""Asks VAPI once more for complete calls, as VAPI adds recordings and structured outputs after the report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import StoreUnavailableError
from service.jobs.reconciler import Reconciler, ReconcileResult
from service.store.calls import CallStore
from service.store.reconcile_leases import ReconcileLeases
from service.vapi.artifact_plan import has_structured_output

log = structlog.get_logger(__name__)

MAX_QUEUED: Final = 50
"""Calls that may wait here. A further call is dropped; a sweep takes it up again when its lease is over."""

WORKERS: Final = 4
"""Requests at once. They leave most of the client's 32 connections to the reconciler."""

TRY_EVERY_S: Final = 0.25
"""How often one worker of the process looks for a free turn. It takes only turns that nobody else needs."""


class LateRefresh:
    """Refreshes the calls that sweeps take up, each at most once over all replicas, when no other call waits for VAPI.

    If a replica dies before its request, another replica takes the call up after REFRESH_LEASE_MS. A request that
    fails, or whose replica dies, is not repeated.

    Args:
        on_result: called with the result of each request.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        calls: CallStore,
        leases: ReconcileLeases,
        *,
        on_result: Callable[[ReconcileResult], None],
    ) -> None:
        self._reconciler = reconciler
        self._calls = calls
        self._leases = leases
        self._on_result = on_result
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._taken_up: set[bytes] = set()
        self._next = asyncio.Lock()

    def schedule(self, call_id: bytes) -> None:
        """Queue the call for a refresh, if it still lacks something by then. Never waits."""
        if call_id not in self._taken_up and self._queue.qsize() < MAX_QUEUED:
            self._taken_up.add(call_id)
            self._queue.put_nowait(call_id)

    async def work(self) -> None:
        """Refresh one call after the other, until cancelled."""
        while True:
            call_id = await self._queue.get()
            try:
                await self._refresh_one(call_id)
            except StoreUnavailableError:
                log.debug("refreshing.waits_for_redis")
            except Exception:
                log.exception("refreshing.broke", call_id=call_id.decode(errors="replace"))
                with suppress(StoreUnavailableError):
                    await self._leases.take_refresh(call_id)  # else it would fail again after each lease
            finally:
                self._taken_up.discard(call_id)

    async def _refresh_one(self, call_id: bytes) -> None:
        async with self._next:
            is_worth_it = await self._wait_for_turn(call_id)
        if await self._leases.take_refresh(call_id) and is_worth_it:
            await self._reconciler.refresh(call_id, self._on_result)

    async def _wait_for_turn(self, call_id: bytes) -> bool:
        """True once it is the call's turn; False, without using a turn, once the call lacks nothing."""
        while lacks_late_results(await self._calls.find(call_id, ("structured_outputs",))):
            if not self._reconciler.has_waiting and await self._leases.reserve_turn(within_s=0) is not None:
                return True
            await asyncio.sleep(TRY_EVERY_S)
        return False


def lacks_late_results(call: StoredCall | Tombstone | None) -> bool:
    """Whether a complete call, in which the customer spoke, lacks a recording or outputs that VAPI was asked for.

    ``call`` must have its structured outputs. merge_call.lua decides by the same facts, but cannot see whether
    outputs came by another message than the one that awaits them.
    """
    if not isinstance(call, StoredCall) or call.data_status != DataStatus.COMPLETE:
        return False
    facts = call.facts
    if facts.customer_spoke != b"true":
        return False
    if not facts.recording_url and facts.recording_enabled != b"false":
        return True
    return facts.outputs_awaited == b"true" and not has_structured_output(facts.structured_outputs)
