"""Resumes the Kestra executions that wait for a call: at least once each, whichever replica dies, and a few at a time.

Redis holds who waits and what is due (store/lua/subscribe.lua). The replica whose webhook made something due takes it up at
once; any replica's sweep finds what was left over. While one tries, its lease keeps the others away.
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
"""For one try in all; the rest of the lease is for noting what became of it."""

MAX_BACKOFF_S: Final = 30.0
"""Between two tries; the first comes a second after the first failure, each next one after twice as long."""

NOT_PAUSED_FOR_MS: Final = 10 * 60_000
"""How long an execution may take to reach its pause, from our first try; then it is doing something else."""

TROUBLE_FOR_MS: Final = 60 * 60_000
"""How long Kestra may be in trouble, from the first try. The record is gone before that, unless it is renewed."""

LOCAL_RETRY_S: Final = 2.0
"""A retry that is due within this time is not left to the sweep, which would come up to 1.5 s later."""

CLOSE_S: Final = 1.5
"""For tries under way at the end; what is cut off then is for another replica to try again."""

_OF_RESUMPTION: Final[dict[Resumption, ResumeResult]] = {
    Resumption.RESUMED: "resumed",
    Resumption.ALREADY_RESUMED: "resumed",
    Resumption.NOT_PAUSED_YET: "retried",
    Resumption.UNKNOWN_EXECUTION: "dropped",
}


class Subscriptions:
    """One per process.

    Args:
        on_result: told of each try that was settled, once.
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
        """Buckets with something due, longest known first."""
        self._has_due = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], ResumeClaim] = {}
        self._is_kestra_in_trouble = False

    async def subscribe(self, call_id: bytes, execution_id: bytes) -> None:
        """Resume the execution when the call's record is final, at once if it is; known ones change nothing.

        Raises:
            TooManyRequestsError: there are as many subscriptions as there may be.
            UnavailableError: Redis did not take it, or is nearly full.
        """
        if await self._store.subscribe(call_id, execution_id):
            self.wake(bucket_of(call_id))

    def wake(self, bucket: int) -> None:
        """Something in the bucket may be due."""
        self._due[bucket] = None
        self._has_due.set()

    async def resume_due(self) -> None:
        """Wait until something is due and fewer than MAX_CONCURRENT tries run, and begin with it. To be repeated.

        Raises:
            StoreUnavailableError: a later sweep says again what is due.
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
            # What Redis may have taken up for us is due again only after its lease: no sweep names the bucket before.
            asyncio.get_running_loop().call_later(LOCAL_RETRY_S, self.wake, bucket)
            raise
        for claim in claims:
            task = asyncio.get_running_loop().create_task(self._resume(claim), name="kestra-resume")
            self._under_way[task] = claim
            task.add_done_callback(self._under_way.pop)
        if are_more_left:
            self.wake(bucket)

    async def close(self) -> None:
        """After ``resume_due`` was cancelled: finish what is under way as far as that is soon, and give back the rest."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=CLOSE_S)
        unfinished = [self._under_way[task] for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        # Without this their leases would run out first.
        giving_back = [self._store.settle(claim, "retried") for claim in unfinished]
        await asyncio.gather(*giving_back, return_exceptions=True)

    async def _resume(self, claim: ResumeClaim) -> None:
        """One try, and the note of what became of it; without the note the lease ends and somebody tries again."""
        try:
            result = await self._try(claim)
            retry_in_s = min(2.0 ** min(claim.number - 1, 10), MAX_BACKOFF_S)
            if await self._store.settle(claim, result, retry_in_ms=round(retry_in_s * 1000)):
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

        An answer may get lost, or whoever waits for it may die. So the pause is noted before it is resumed: the next try
        finds that it is over, also where the execution is paused again by then, for another call.
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
            return Resumption.NOT_PAUSED_YET  # this try took too long, another one sees to it
        return await self._kestra.resume(execution_id)

    def _retried_unless(self, claim: ResumeClaim, reason: str, at_most_ms: int) -> Literal["retried", "dropped"]:
        if claim.tried_for_ms < at_most_ms:
            log.debug("resume.retried", tries=claim.number, **_ids(claim))
            return "retried"
        log.warning("resume.dropped", reason=reason, **_ids(claim))
        return "dropped"

    def _note_trouble(self, reason: str | None) -> None:
        """One line when it begins and one when it ends: while it lasts, every try meets it."""
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
