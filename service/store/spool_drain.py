"""Takes changes out of the spool again. A change that Redis does not take never blocks others.

Redis may lose one shard and keep the others. So the drain skips the changes of a failed bucket, and one of them at a
time is tried beside it (``BucketPauses``): a hundred thousand skipped changes cost as little as one. A change that
fails alone, while others of its bucket are taken, gets a pause of its own, which is stored in the file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from enum import Enum, auto
from typing import Any, Final

import msgspec
import structlog

from service.calls.stored_call import CallChange, Merged
from service.errors import StoreRefusedError, StoreUnavailableError
from service.store.bucket_pauses import BucketPauses
from service.store.call_codec import UnknownLayoutError, UnreadableChangeError, decode_spooled
from service.store.keys import bucket_of
from service.store.spool_file import SpooledChange, SpoolFile

log = structlog.get_logger(__name__)

DRAIN_BATCH: Final = 64
DRAIN_EVERY_S: Final = 0.2
"""At most 320 changes a second, besides the webhooks that arrive meanwhile."""

CLAIM_MS: Final = 10_000
"""Longer than a batch takes. The claims of a killed process end after this time."""

SHORTEST_PAUSE_MS: Final = 1_000
LONGEST_PAUSE_MS: Final = 5_000
"""For one change that failed. Below 2 * CLAIM_MS: version 0.1.0 takes more for a clock that was set back."""

Merge = Callable[[CallChange], Awaitable[Merged]]
OnMerged = Callable[[Merged], None]
InThread = Callable[..., Awaitable[Any]]


class _Outcome(Enum):
    MERGED = auto()
    SET_ASIDE = auto()
    WAITS = auto()
    """It waits for a version that can read or apply it. This says nothing about Redis."""
    NOT_TAKEN = auto()


class Drained(msgspec.Struct, frozen=True):
    """The result of one batch."""

    claimed: int
    stored: int
    """Changes that were merged or set aside and no longer wait."""


class Drain:
    """The drain of one process. All file access goes through ``in_thread``."""

    def __init__(self, file: SpoolFile, in_thread: InThread) -> None:
        self._file = file
        self._in_thread = in_thread
        self._pauses = BucketPauses()
        self._claimed: set[int] = set()
        self._probing: asyncio.Task[Drained] | None = None

    async def drain_some(self, merge: Merge, on_merged: OnMerged) -> Drained:
        """Drain one batch from the healthy buckets, and probe the failing ones meanwhile.

        When no healthy bucket has a change, the result is that of the probes.
        """
        probing = self._probe(merge, on_merged)
        drained = await self._drain(self._pauses.sound(), DRAIN_BATCH, merge, on_merged)
        return await probing if probing is not None and not drained.claimed else drained

    async def drain_all(self, merge: Merge, on_merged: OnMerged) -> None:
        """Drain until only changes that Redis does not take now are left."""
        while (await self._drain(self._pauses.sound(), DRAIN_BATCH, merge, on_merged)).claimed:
            pass

    async def close(self) -> None:
        """Release the claims of a cancelled drain at once."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._in_thread(self._file.release, self._claimed)

    def _probe(self, merge: Merge, on_merged: OnMerged) -> asyncio.Task[Drained] | None:
        """Try one change of each bucket whose pause is over, in its own task: a dead shard takes a second to fail.

        Raises:
            sqlite3.Error: the previous probe raised it.
        """
        ended = self._probing
        if ended is not None and not ended.done():
            return None
        self._probing = None
        if ended is not None:
            ended.result()
        buckets = self._pauses.to_probe(time.monotonic())
        if buckets:
            probing = self._drain(buckets, 1, merge, on_merged)
            self._probing = asyncio.get_running_loop().create_task(probing, name="spool-probe")
        return self._probing

    async def _drain(self, buckets: Collection[int], per_bucket: int, merge: Merge, on_merged: OnMerged) -> Drained:
        batch: list[SpooledChange] = await self._in_thread(self._claim, buckets, per_bucket)
        outcomes = await asyncio.gather(*(self._apply(spooled, merge, on_merged) for spooled in batch))
        of_outcome: dict[_Outcome, list[SpooledChange]] = {outcome: [] for outcome in _Outcome}
        for spooled, outcome in zip(batch, outcomes, strict=True):
            of_outcome[outcome].append(spooled)
        merged, set_aside = of_outcome[_Outcome.MERGED], of_outcome[_Outcome.SET_ASIDE]
        self._judge_buckets(taken=(*merged, *set_aside), not_taken=of_outcome[_Outcome.NOT_TAKEN])
        await self._in_thread(self._file.remove, [spooled.id for spooled in merged])
        failed = (*of_outcome[_Outcome.NOT_TAKEN], *of_outcome[_Outcome.WAITS])
        await self._in_thread(self._file.postpone, [(spooled.id, _next_try_ms(spooled)) for spooled in failed])
        self._claimed.difference_update(spooled.id for spooled in batch)
        return Drained(len(batch), len(merged) + len(set_aside))

    def _claim(self, buckets: Collection[int], per_bucket: int) -> list[SpooledChange]:
        batch = self._file.claim(DRAIN_BATCH, now_ms(), CLAIM_MS, buckets, per_bucket=per_bucket)
        self._claimed.update(spooled.id for spooled in batch)
        return batch

    def _judge_buckets(self, *, taken: Collection[SpooledChange], not_taken: Collection[SpooledChange]) -> None:
        """A bucket is healthy when one of its changes was taken, whatever became of the others."""
        well = {_bucket_of(spooled) for spooled in taken}
        for bucket in well:
            self._pauses.end(bucket)
        for bucket in {_bucket_of(spooled) for spooled in not_taken} - well:
            self._pauses.lengthen(bucket, time.monotonic())

    async def _apply(self, spooled: SpooledChange, merge: Merge, on_merged: OnMerged) -> _Outcome:
        try:
            on_merged(await merge(decode_spooled(spooled.change)))
        except UnknownLayoutError:
            return _Outcome.WAITS
        except (UnreadableChangeError, StoreRefusedError) as exc:
            reason = str(exc.__cause__ or exc)
            log.warning("spool.set_aside", id=spooled.id, call_id=spooled.call_id, error=reason)
            await self._in_thread(self._file.reject, spooled.id, reason)
            return _Outcome.SET_ASIDE
        except StoreUnavailableError:
            return _Outcome.NOT_TAKEN
        except Exception:
            # An unforeseen error of one change must not keep the others of its batch in the spool.
            log.exception("spool.change_failed", id=spooled.id, call_id=spooled.call_id)
            return _Outcome.WAITS
        return _Outcome.MERGED


def now_ms() -> int:
    return round(time.time() * 1000)


def _bucket_of(spooled: SpooledChange) -> int:
    return bucket_of(spooled.call_id.encode())


def _next_try_ms(spooled: SpooledChange) -> int:
    """The pauses of a change grow with its age."""
    now = now_ms()
    return now + min(max((now - spooled.spooled_at_ms) // 4, SHORTEST_PAUSE_MS), LONGEST_PAUSE_MS)
