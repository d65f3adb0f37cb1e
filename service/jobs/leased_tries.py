"""Tries to reach the subscribers that are due, a few at a time: each at least once, even if replicas die.

Redis holds the subscriptions and which are due (store/lua/subscribe.lua). The replica whose webhook made one due claims
it at once; any replica's sweep finds what was left over. While one replica tries, its lease keeps the others away.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import structlog

from service.errors import StoreUnavailableError
from service.store.keys import bucket_of
from service.store.subscriptions import SubscriptionStore, TryClaim, TryResult

log = structlog.get_logger(__name__)

LOCAL_RETRY_S: Final = 2.0
"""A retry that is due within this time does not wait for the sweep, which may come 1.5 s later."""

CLOSE_S: Final = 1.5
"""Wait for tries under way at shutdown. Another replica repeats those that are cut off."""


class LeasedTries(ABC):
    """The tries of one queue; one per queue and process.

    Args:
        on_result: called once for each recorded result of a try.
    """

    event: ClassVar[str]
    """First part of the names in the log."""
    max_concurrent: ClassVar[int]
    """Tries at once, per process: after an outage thousands may be due."""
    max_backoff_s: ClassVar[float]
    """Longest pause between two tries. The first pause is a second, each further one is twice as long."""

    def __init__(self, store: SubscriptionStore, on_result: Callable[[TryResult], None]) -> None:
        self._store = store
        self._on_result = on_result
        self._not_recorded, self._broke = f"{self.event}.not_recorded", f"{self.event}.broke"
        self._due: dict[int, None] = {}
        """Buckets in which something is due, longest known first."""
        self._has_due = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], TryClaim] = {}

    @abstractmethod
    async def attempt(self, claim: TryClaim) -> TryResult:
        """Try once. May raise StoreUnavailableError: the lease then ends and another try follows."""

    @abstractmethod
    def ids_of(self, claim: TryClaim) -> dict[str, str]:
        """For the log."""

    async def until_ready(self) -> None:  # noqa: B027 - only some queues have to wait
        """Wait while a try would be pointless; nothing is claimed meanwhile."""

    async def subscribe(
        self, call_id: bytes, subscriber: bytes, url: bytes = b"", *, is_archived: bool = False
    ) -> None:
        """Tell the subscriber once the call's record is final, or now if it is. A repetition changes nothing.

        ``is_archived``: the archive has a final record.

        Raises:
            TooManyRequestsError: there are too many subscriptions.
            UnavailableError: Redis did not take it, or is nearly full.
        """
        if await self._store.subscribe(call_id, subscriber, url, is_archived=is_archived):
            self.wake(bucket_of(call_id))

    def wake(self, bucket: int) -> None:
        """Look for due subscriptions in the bucket soon."""
        self._due[bucket] = None
        self._has_due.set()

    async def try_due(self) -> None:
        """Wait until something is due and fewer than ``max_concurrent`` tries run, and start with it. Call it in a loop.

        Raises:
            StoreUnavailableError: nothing is lost; a later sweep finds again what is due.
        """
        await self._has_due.wait()
        if len(self._under_way) >= self.max_concurrent:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            return
        await self.until_ready()
        bucket = next(iter(self._due))
        del self._due[bucket]
        if not self._due:
            self._has_due.clear()
        try:
            claimed = await self._store.claim(bucket, self.max_concurrent - len(self._under_way))
        except StoreUnavailableError:
            # Redis may have granted the claim. Its entries are due after the lease; no sweep names the bucket before.
            self._wake_later(bucket, LOCAL_RETRY_S)
            raise
        for claim in claimed.claims:
            task = asyncio.get_running_loop().create_task(self._try(claim), name=f"{self.event}-try")
            self._under_way[task] = claim
            task.add_done_callback(self._under_way.pop)
        self.note_expired(claimed.expired)
        if claimed.are_more_left:
            self.wake(bucket)

    def pause_after(self, claim: TryClaim) -> float:
        """Seconds until the next try."""
        return min(2.0 ** min(claim.number - 1, 20), self.max_backoff_s)

    def note_expired(self, count: int) -> None:  # noqa: B027 - only some queues count them
        """So many were due, but their record is gone."""

    async def close(self) -> None:
        """Call it after cancelling ``try_due``. Waits CLOSE_S for tries under way and gives back the rest."""
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

    async def _try(self, claim: TryClaim) -> None:
        """Try once and record the result. Without a recorded result the lease ends and another try follows."""
        try:
            result = await self.attempt(claim)
            retry_in_s = self.pause_after(claim)
            if await self._store.end_claim(claim, result, retry_in_ms=round(retry_in_s * 1000)):
                self._on_result(result)
        except StoreUnavailableError:
            log.warning(self._not_recorded, **self.ids_of(claim))
            return
        except Exception:
            log.exception(self._broke, **self.ids_of(claim))
            return
        if result == "retried" and retry_in_s <= LOCAL_RETRY_S:
            self._wake_later(bucket_of(claim.call_id), retry_in_s + 0.01)

    def _wake_later(self, bucket: int, in_s: float) -> None:
        asyncio.get_running_loop().call_later(in_s, self.wake, bucket)
