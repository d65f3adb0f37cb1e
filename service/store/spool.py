"""Webhooks on disk while Redis is away: put before the 200, drained in the background once Redis is back.

Only the change is kept, with its allow-listed facts; never the body, which holds VAPI's secrets.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from service.errors import SettingsError, StoreRefusedError, StoreUnavailableError, UnavailableError
from service.store.call_codec import UnreadableChangeError, decode_spooled, encode_spooled
from service.store.shapes import CallChange, Merged
from service.store.spool_file import Held, SpooledChange, SpoolFile

log = structlog.get_logger(__name__)

PUT_TIMEOUT_S: Final = 0.8
"""With ``STORE_TIMEOUT_S`` before it, a webhook is answered within two seconds, whatever the disk does."""

DRAIN_BATCH: Final = 64
DRAIN_EVERY_S: Final = 0.2
"""At most 320 a second, beside what VAPI sends meanwhile."""

RETRY_DISK_S: Final = 5.0
"""How long after a failed write we say that we are not ready; then somebody has to find out whether that is still so."""

CLAIM_MS: Final = 10_000
"""Longer than a batch takes; what a killed process had claimed is free again after this."""

Merge = Callable[[CallChange], Awaitable[Merged]]


class SpoolUnavailableError(UnavailableError):
    """The spool is full, or its disk does not take it."""


class Spool:
    """The asynchronous side of the spool's file: all file access is in one thread, concurrent puts in one commit."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._file = open_file(folder, max_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._max_bytes = max_bytes
        self._claimed: list[int] = []
        self._failed_at = -RETRY_DISK_S
        self._least_refused_bytes = 1
        self.held: Held = self._file.held()
        """As of the last put or drain."""

    @property
    def has_room(self) -> bool:
        """Whether the next webhook would, as far as the last ones tell, be kept."""
        is_failing = time.monotonic() - self._failed_at < RETRY_DISK_S
        return not is_failing and self.held.bytes + self._least_refused_bytes <= self._max_bytes

    async def put(self, change: CallChange) -> None:
        """Keep the change; it is on the disk when this returns.

        Raises:
            SpoolUnavailableError: it is not, or not in time.
        """
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((change.call_id.decode(), encode_spooled(change), kept))
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write(), name="spool-writer")
        try:
            async with asyncio.timeout(PUT_TIMEOUT_S):
                await kept
        except TimeoutError:
            raise SpoolUnavailableError("The spool's disk does not answer; try again in a second") from None

    async def drain_some(self, merge: Merge, on_merged: Callable[[Merged], None]) -> int:
        """Merge a batch, oldest first; returns how many no longer wait. Those that Redis did not take do."""
        self.held = await self._in_thread(self._file.held)
        if not self.held.waiting:
            return 0
        rejected_before = self.held.rejected
        batch = await self._in_thread(self._claim)
        outcomes = await asyncio.gather(*(self._apply(spooled, merge) for spooled in batch))
        merged = {spooled.id: outcome for spooled, outcome in zip(batch, outcomes, strict=True) if outcome is not None}
        for outcome in merged.values():
            on_merged(outcome)
        await self._in_thread(self._file.remove, list(merged))
        await self._in_thread(self._file.release, [spooled.id for spooled in batch if spooled.id not in merged])
        self._claimed = []
        self.held = await self._in_thread(self._file.held)
        if merged:
            log.info("spool.drained", merged=len(merged), waiting=self.held.waiting)
        return len(merged) + self.held.rejected - rejected_before

    async def drain_in_background(self, merge: Merge, on_merged: Callable[[Merged], None]) -> None:
        """As ``drain_some``; a disk that fails is logged, and left alone for a while."""
        try:
            await self.drain_some(merge, on_merged)
        except sqlite3.Error as exc:
            log.warning("spool.not_drained", error=str(exc))
            await asyncio.sleep(RETRY_DISK_S)

    async def close(self) -> None:
        """Finish what is being written, and leave to others at once what a drain that was cancelled had claimed."""
        if self._writing is not None:
            await self._writing
        with suppress(sqlite3.Error):
            await self._in_thread(self._file.release, self._claimed)
        await self._in_thread(self._file.close)
        self._thread.shutdown()

    def _claim(self) -> list[SpooledChange]:
        batch = self._file.claim(DRAIN_BATCH, _now_ms(), CLAIM_MS)
        self._claimed = [spooled.id for spooled in batch]
        return batch

    async def _apply(self, spooled: SpooledChange, merge: Merge) -> Merged | None:
        """What the merge did; None when the change waits on, or was set aside because it can never be applied."""
        try:
            return await merge(decode_spooled(spooled.change))
        except (UnreadableChangeError, StoreRefusedError) as exc:
            reason = str(exc.__cause__ or exc)
            log.warning("spool.set_aside", id=spooled.id, call_id=spooled.call_id, error=reason)
            await self._in_thread(self._file.reject, spooled.id, reason)
            return None
        except StoreUnavailableError:
            return None

    async def _write(self) -> None:
        """Commit what waits, all of it at once, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                kept = await self._in_thread(
                    self._file.put, [(call_id, change) for call_id, change, _ in batch], _now_ms()
                )
                self.held = await self._in_thread(self._file.held)
            except (sqlite3.Error, OSError) as exc:
                log.warning("spool.not_written", error=str(exc))
                self._failed_at = time.monotonic()
                for _, _, waiter in batch:
                    _settle(waiter, SpoolUnavailableError("Neither Redis nor the spool's disk can take it now"))
                continue
            refused = [len(change) for (_, change, _), is_kept in zip(batch, kept, strict=True) if not is_kept]
            self._least_refused_bytes = min(refused, default=1)
            for (_, _, waiter), is_kept in zip(batch, kept, strict=True):
                full = SpoolUnavailableError("Neither Redis nor the spool, which is full, can take it now")
                _settle(waiter, None if is_kept else full)

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _settle(waiter: asyncio.Future[None], error: Exception | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


def check_spool(folder: str) -> None:
    """Raises SettingsError when the folder cannot hold a spool."""
    open_file(folder, 0).close()


def open_file(folder: str, max_bytes: int) -> SpoolFile:
    """Raises SettingsError when the folder cannot hold a spool."""
    try:
        return SpoolFile(Path(folder), max_bytes)
    except (OSError, sqlite3.Error) as exc:
        raise SettingsError(f"SPOOL_DIR: {folder} cannot be used: {exc}") from None


def _now_ms() -> int:
    return round(time.time() * 1000)
