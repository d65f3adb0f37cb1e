"""Resumes the Kestra executions that wait for a call: each at least once, even if replicas die, and a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal

import structlog

from service.errors import ServiceError, StoreUnavailableError
from service.jobs.leased_tries import LeasedTries
from service.kestra.client import KestraClient, Resumption
from service.kestra.execution import Pause
from service.store.subscriptions import SubscriptionStore, TryClaim, TryResult

log = structlog.get_logger(__name__)

TRY_WITHIN_S: Final = 8.0
"""Longest duration of one try. The rest of the lease is for recording its result."""

NOT_PAUSED_FOR_MS: Final = 10 * 60_000
"""How long after our first try an execution may take to reach its pause; after that it is given up."""

TROUBLE_FOR_MS: Final = 60 * 60_000
"""How long Kestra may fail, from the first try. The record expires earlier, unless it is renewed."""

_OF_RESUMPTION: Final[dict[Resumption, TryResult]] = {
    Resumption.RESUMED: "resumed",
    Resumption.ALREADY_RESUMED: "resumed",
    Resumption.NOT_PAUSED_YET: "retried",
    Resumption.UNKNOWN_EXECUTION: "dropped",
}


class Resumer(LeasedTries):
    """Tries to resume executions; one per process."""

    event = "resume"
    max_concurrent = 10
    max_backoff_s = 30.0

    def __init__(
        self,
        store: SubscriptionStore,
        kestra: KestraClient,
        on_result: Callable[[TryResult], None],
        *,
        try_within_s: float = TRY_WITHIN_S,
    ) -> None:
        super().__init__(store, on_result)
        self._kestra = kestra
        self._try_within_s = try_within_s
        self._is_kestra_in_trouble = False

    def ids_of(self, claim: TryClaim) -> dict[str, str]:
        return {
            "call_id": claim.call_id.decode(errors="replace"),
            "execution_id": claim.subscriber.decode(errors="replace"),
        }

    async def attempt(self, claim: TryClaim) -> TryResult:
        try:
            async with asyncio.timeout(self._try_within_s):
                resumption = await self._resume_pause(claim)
        except StoreUnavailableError:
            raise
        except (ServiceError, TimeoutError) as exc:
            self._note_trouble(str(exc) or "Kestra did not answer in time")
            return self._retried_unless(claim, "Kestra is in trouble for too long", TROUBLE_FOR_MS)
        self._note_trouble(None)
        result = _OF_RESUMPTION[resumption]
        if result == "retried":
            return self._retried_unless(claim, "the execution does not come to its pause", NOT_PAUSED_FOR_MS)
        if result == "dropped":
            log.warning("resume.dropped", reason="Kestra does not know the execution", **self.ids_of(claim))
        else:
            log.info("resume.succeeded", resumption=resumption.value, tries=claim.number, **self.ids_of(claim))
        return result

    async def _resume_pause(self, claim: TryClaim) -> Resumption:
        """Resume the pause that the subscription is for, and no other.

        Kestra's answer may get lost, or this process may die before it. So the pause is stored before it is resumed.
        The next try then sees that it is over, even if the execution is paused again by then, for another call.
        """
        execution_id = claim.subscriber.decode()
        execution = await self._kestra.find_execution(execution_id)
        if execution is None:
            return Resumption.UNKNOWN_EXECUTION
        number, _, task_run_id = claim.purpose.partition(b" ")
        seen = Pause(int(number), task_run_id.decode()) if number else None
        pause = execution.find_pause_to_resume(subscribed_at_ms=claim.subscribed_at_ms, seen=seen)
        if isinstance(pause, Resumption):
            return pause
        if seen is None and not await self._store.note_pause(claim, pause.number, pause.task_run_id.encode()):
            return Resumption.NOT_PAUSED_YET  # this try took too long, another one has the lease
        return await self._kestra.resume(execution_id)

    def _retried_unless(self, claim: TryClaim, reason: str, at_most_ms: int) -> Literal["retried", "dropped"]:
        if claim.tried_for_ms < at_most_ms:
            log.debug("resume.retried", tries=claim.number, **self.ids_of(claim))
            return "retried"
        log.warning("resume.dropped", reason=reason, **self.ids_of(claim))
        return "dropped"

    def _note_trouble(self, reason: str | None) -> None:
        """Log once when an outage begins and once when it ends, not for every try."""
        if reason is not None and not self._is_kestra_in_trouble:
            log.warning("kestra.failed", reason=reason)
        elif reason is None and self._is_kestra_in_trouble:
            log.info("kestra.recovered")
        self._is_kestra_in_trouble = reason is not None
