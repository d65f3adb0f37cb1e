"""Batches of calls. Each runs to its end even if nobody waits, and any replica can report its progress."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog

from service.errors import StoreUnavailableError, UnavailableError
from service.jobs.deferred_writes import DeferredWrites
from service.jobs.placing import CLOSE_S
from service.store.batches import BatchClaim, BatchStanding, BatchStore, LeftBehind

log = structlog.get_logger(__name__)

HEARTBEAT_S: Final = 1.0
"""A tenth of the lease: Redis may be away for seconds before this replica counts as dead."""

READ_EVERY_S: Final = 0.25
"""How often a batch that another replica dials is read."""

WRITTEN_WITHIN_S: Final = 1.0
"""How long a caller waits for the last results to be in Redis once all are known."""

WRITE_TRIES: Final = 60
"""How many times, one a heartbeat, a finished batch tries to write its results to Redis."""

FLUSH_S: Final = 0.5
"""For writing the last results at shutdown. Together with CLOSE_S and the steps before it is below 10 s."""

Place = Callable[[int], Awaitable[bytes]]
"""Places the call of that index. Returns its result, a JSON object, also when it is cancelled."""


def failure(sentence: str) -> bytes:
    return msgspec.json.encode({"success": False, "error": sentence})


STOPPED: Final = failure("The service stops; this call was not placed")
LEFT_BEHIND: Final = LeftBehind(
    not_placed=failure("The replica that placed this batch died; this call was not placed"),
    unknown=failure("The replica that placed this batch died; nobody knows whether this call was placed"),
)
GIVEN_UP: Final = failure("Redis lost this batch, or this replica was taken for dead; this call was not placed")


class RunningBatch:
    """The calls of one batch, of which some are being dialled by this process."""

    def __init__(self, store: BatchStore, claim: BatchClaim, max_concurrent: int, place: Place) -> None:
        self._store = store
        self._claim = claim
        self._place = place
        self._results: list[bytes | None] = [None] * claim.total
        self._unwritten: dict[int, bytes] = {}
        self._news = asyncio.Event()
        self._is_stopping = False
        waiting = iter(range(claim.total))
        loop = asyncio.get_running_loop()
        self._workers = [
            loop.create_task(self._work(waiting), name="batch-worker") for _ in range(min(max_concurrent, claim.total))
        ]
        self.writer = loop.create_task(self._keep_written(), name="batch-writer")
        """Ends when every result is known and in Redis, or after WRITE_TRIES."""

    @property
    def standing(self) -> BatchStanding:
        return BatchStanding(list(self._results))

    async def wait(self, timeout_s: float) -> None:
        """Wait until every result is known, for ``timeout_s`` at most."""
        _, late = await asyncio.wait(self._workers, timeout=timeout_s)
        if not late:
            await asyncio.wait([self.writer], timeout=WRITTEN_WITHIN_S)

    async def cut_off(self, *, after_s: float = 0.0) -> None:
        """Dial nobody any more; cancel what is still being dialled after ``after_s``. Then every call has a result."""
        self._is_stopping = True
        _, late = await asyncio.wait(self._workers, timeout=after_s)
        for worker in late:
            worker.cancel()
        await asyncio.wait(self._workers)
        for index, result in enumerate(self._results):
            if result is None:
                self._note(index, STOPPED)

    async def _work(self, waiting: Iterator[int]) -> None:
        """Place one call after the other; all workers of a batch share ``waiting``."""
        for index in waiting:
            self._note(index, await self._result_of(index))

    async def _result_of(self, index: int) -> bytes:
        try:
            return await self._dial(index)
        except Exception:
            # Without a result for each of its calls the batch would never end.
            log.exception("batch.call_failed", batch_id=self._claim.batch_id, index=index)
            return failure("Internal server error")

    async def _dial(self, index: int) -> bytes:
        if self._is_stopping:
            return STOPPED
        try:
            may_dial = await self._store.mark_dialling(self._claim, index)
        except StoreUnavailableError as exc:
            return failure(f"{exc}; this call was not placed")
        except asyncio.CancelledError:
            return STOPPED
        if not may_dial:
            return GIVEN_UP
        if self._is_stopping:  # stopped during that write: nobody would wait for this call
            return STOPPED
        return await self._place(index)

    def _note(self, index: int, result: bytes) -> None:
        self._results[index] = self._unwritten[index] = result
        self._news.set()

    async def _keep_written(self) -> None:
        tries = 0
        while tries < WRITE_TRIES:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
            self._news.clear()
            is_over = self.standing.is_done
            try:
                await self._write()
            except StoreUnavailableError:
                tries += is_over
                await asyncio.sleep(HEARTBEAT_S)
            else:
                if is_over:
                    return
        log.error("batch.not_written", batch_id=self._claim.batch_id, results=len(self._unwritten))

    async def _write(self) -> None:
        results = dict(self._unwritten)
        if not await self._store.write(self._claim, results):
            log.error("batch.lost", batch_id=self._claim.batch_id, reason="Redis does not have it any more")
        for index in results:
            del self._unwritten[index]


class Batches:
    """Runs batches, and reports the progress of any replica's batches.

    Args:
        is_shutting_down: whether this process is about to end; callers that wait for another replica's batch then get
            an answer.
    """

    def __init__(self, store: BatchStore, is_shutting_down: Callable[[], bool]) -> None:
        self._store = store
        self._is_shutting_down = is_shutting_down
        self._running: dict[str, RunningBatch] = {}
        self._deferred = DeferredWrites()

    async def begin(self, claim: BatchClaim, max_concurrent: int, place: Place) -> None:
        """Begin the batch, unless the same request began it already.

        Raises:
            KeyReusedError: its Idempotency-Key stands for another request.
            StoreUnavailableError: Redis is away; nobody was dialled.
        """
        try:
            is_ours = await self._store.begin(claim)
        except StoreUnavailableError:
            self._deferred.write_later("batch-free", partial(self._store.free, claim))
            raise
        if is_ours:
            batch = self._running[claim.batch_id] = RunningBatch(self._store, claim, max_concurrent, place)
            batch.writer.add_done_callback(lambda _: self._running.pop(claim.batch_id, None))

    async def wait(self, batch_id: str, timeout_s: float) -> BatchStanding:
        """The batch's progress once it is done, or after ``timeout_s``.

        If the caller is cancelled by the end of the process, its batch is stopped as well.

        Raises:
            UnavailableError: Redis does not have it, as when its beginning failed; the same request begins it anew.
            StoreUnavailableError: another replica dials it, and Redis is away.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        if (running := self._running.get(batch_id)) is not None:
            try:
                await running.wait(timeout_s)
            except asyncio.CancelledError:
                await running.cut_off()
            return running.standing
        while True:
            standing = await self.find(batch_id)
            if standing is None:
                raise UnavailableError("This batch was not begun; try again in a second")
            left_s = until - loop.time()
            if standing.is_done or left_s <= 0 or self._is_shutting_down():
                return standing
            await asyncio.sleep(min(READ_EVERY_S, left_s))

    async def find(self, batch_id: str) -> BatchStanding | None:
        """The batch's progress; None if there is none, or no longer. Gives results to the calls of a dead replica.

        Raises:
            StoreUnavailableError: another replica dials it, and Redis is away.
        """
        if (running := self._running.get(batch_id)) is not None:
            return running.standing
        return await self._store.find(batch_id, LEFT_BEHIND)

    async def close(self) -> None:
        """Dial nobody any more, wait a moment for calls that are being dialled, and write all results."""
        if running := list(self._running.values()):
            await asyncio.gather(*(batch.cut_off(after_s=CLOSE_S) for batch in running))
            _, late = await asyncio.wait([batch.writer for batch in running], timeout=FLUSH_S)
            for writer in late:
                writer.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._deferred.close()
