"""Resumes the Kestra executions that wait for a call: each at least once, even if replicas die, and a few at a time.

Redis holds the subscriptions and which are due (store/lua/subscribe.lua). The replica whose webhook made one due claims
it at once; any replica's sweep finds what was left over. While one replica tries, its lease keeps the others away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Literal

import structlog

from service.errors import ServiceError, StoreUnavailableError
from service.kestra.client import KestraClient, Resumption
from service.kestra.execution import Pause
from service.store.keys import bucket_of
from service.store.subscriptions import ResumeClaim, ResumeResult, SubscriptionStore

log = structlog.get_logger(__name__)

MAX_CONCURRENT: Final = 10
"""Requests to Kestra at once, per process: after an outage thousands may be due."""

TRY_WITHIN_S: Final = 8.0
"""Longest duration of one try. The rest of the lease is for recording its result."""

MAX_BACKOFF_S: Final = 30.0
"""Longest pause between two tries. The first pause is a second, each further one is twice as long."""

NOT_PAUSED_FOR_MS: Final = 10 * 60_000
"""How long after our first try an execution may take to reach its pause; after that it is given up."""

TROUBLE_FOR_MS: Final = 60 * 60_000
"""How long Kestra may fail, from the first try. The record expires earlier, unless it is renewed."""

LOCAL_RETRY_S: Final = 2.0
"""A retry that is due within this time does not wait for the sweep, which may come 1.5 s later."""

CLOSE_S: Final = 1.5
"""Wait for tries under way at shutdown. Another replica repeats those that are cut off."""

_OF_RESUMPTION: Final[dict[Resumption, ResumeResult]] = {
    Resumption.RESUMED: "resumed",
    Resumption.ALREADY_RESUMED: "resumed",
    Resumption.NOT_PAUSED_YET: "retried",
    Resumption.UNKNOWN_EXECUTION: "dropped",
}


class Resumer:
    """One per process.

    Args:
        on_result: called once for each recorded result of a try.
    """

    def __init__(
        self,
        store: SubscriptionStore,
        kestra: KestraClient,
        on_result: Callable[[ResumeResult], None],
        *,
        try_within_s: float = TRY_WITHIN_S,
    ) -> None:
        self._store = store
        self._kestra = kestra
        self._try_within_s = try_within_s
        self._on_result = on_result
        self._due: dict[int, None] = {}
        """Buckets with due subscriptions, longest known first."""
        self._has_due = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], ResumeClaim] = {}
        self._is_kestra_in_trouble = False

    async def subscribe(self, call_id: bytes, execution_id: bytes) -> None:
        """Resume the execution once the call's record is final, or now if it is. A repetition changes nothing.

        Raises:
            TooManyRequestsError: there are too many subscriptions.
            UnavailableError: Redis did not take it, or is nearly full.
        """
        if await self._store.subscribe(call_id, execution_id):
            self.wake(bucket_of(call_id))

    def wake(self, bucket: int) -> None:
        """Look for due subscriptions in the bucket soon."""
        self._due[bucket] = None
        self._has_due.set()

    async def resume_due(self) -> None:
        """Wait until something is due and fewer than MAX_CONCURRENT tries run, and start with it. Call it in a loop.

        Raises:
            StoreUnavailableError: nothing is lost; a later sweep finds again what is due.
        """
        await self._has_due.wait()
        if len(self._under_way) >= MAX_CONCURRENT:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            return
        bucket = next(iter(self._due))
        del self._due[bucket]
        if not self._due:
            self._has_due.clear()
        try:
            claims, are_more_left = await self._store.claim(bucket, MAX_CONCURRENT - len(self._under_way))
        except StoreUnavailableError:
            # Redis may have granted the claim. Its entries are due after the lease; no sweep names the bucket before.
            asyncio.get_running_loop().call_later(LOCAL_RETRY_S, self.wake, bucket)
            raise
        for claim in claims:
            task = asyncio.get_running_loop().create_task(self._resume(claim), name="kestra-resume")
            self._under_way[task] = claim
            task.add_done_callback(self._under_way.pop)
        if are_more_left:
            self.wake(bucket)

    async def close(self) -> None:
        """Call it after cancelling ``resume_due``. Waits CLOSE_S for tries under way and gives back the rest."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=CLOSE_S)
        unfinished = [self._under_way[task] for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        # Without this, others could try only after the leases ended.
        giving_back = [self._store.end_claim(claim, "retried") for claim in unfinished]
        await asyncio.gather(*giving_back, return_exceptions=True)

    async def _resume(self, claim: ResumeClaim) -> None:
        """Try once and record the result. Without a recorded result the lease ends and another try follows."""
        try:
            result = await self._try(claim)
            retry_in_s = min(2.0 ** min(claim.number - 1, 10), MAX_BACKOFF_S)
            if await self._store.end_claim(claim, result, retry_in_ms=round(retry_in_s * 1000)):
                self._on_result(result)
        except StoreUnavailableError:
            log.warning("resume.not_recorded", **_ids(claim))
            return
        except Exception:
            log.exception("resume.broke", **_ids(claim))
            return
        if result == "retried" and retry_in_s <= LOCAL_RETRY_S:
            asyncio.get_running_loop().call_later(retry_in_s + 0.01, self.wake, bucket_of(claim.call_id))

    async def _try(self, claim: ResumeClaim) -> ResumeResult:
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
            log.warning("resume.dropped", reason="Kestra does not know the execution", **_ids(claim))
        else:
            log.info("resume.succeeded", resumption=resumption.value, tries=claim.number, **_ids(claim))
        return result

    async def _resume_pause(self, claim: ResumeClaim) -> Resumption:
        """Resume the pause that the subscription is for, and no other.

        Kestra's answer may get lost, or this process may die before it. So the pause is stored before it is resumed.
        The next try then sees that it is over, even if the execution is paused again by then, for another call.
        """
        execution_id = claim.execution_id.decode()
        execution = await self._kestra.find_execution(execution_id)
        if execution is None:
            return Resumption.UNKNOWN_EXECUTION
        seen = Pause(claim.pause_number, claim.task_run_id.decode()) if claim.pause_number else None
        pause = execution.find_pause_to_resume(subscribed_at_ms=claim.subscribed_at_ms, seen=seen)
        if isinstance(pause, Resumption):
            return pause
        if seen is None and not await self._store.note_pause(claim, pause.number, pause.task_run_id.encode()):
            return Resumption.NOT_PAUSED_YET  # this try took too long, another one has the lease
        return await self._kestra.resume(execution_id)

    def _retried_unless(self, claim: ResumeClaim, reason: str, at_most_ms: int) -> Literal["retried", "dropped"]:
        if claim.tried_for_ms < at_most_ms:
            log.debug("resume.retried", tries=claim.number, **_ids(claim))
            return "retried"
        log.warning("resume.dropped", reason=reason, **_ids(claim))
        return "dropped"

    def _note_trouble(self, reason: str | None) -> None:
        """Log once when an outage begins and once when it ends, not for every try."""
        if reason is not None and not self._is_kestra_in_trouble:
            log.warning("kestra.failed", reason=reason)
        elif reason is None and self._is_kestra_in_trouble:
            log.info("kestra.recovered")
        self._is_kestra_in_trouble = reason is not None


def _ids(claim: ResumeClaim) -> dict[str, str]:
    return {
        "call_id": claim.call_id.decode(errors="replace"),
        "execution_id": claim.execution_id.decode(errors="replace"),
    }
