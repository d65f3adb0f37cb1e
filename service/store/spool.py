"""Keeps webhooks on disk while Redis is away: written before the 200, drained in the background once Redis is back.

The spool holds only the change with its allow-listed facts, never the body, which holds VAPI's secrets.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from service.calls.stored_call import CallChange
from service.errors import SettingsError, UnavailableError
from service.store.call_codec import encode_spooled
from service.store.spool_database import is_open_to_others
from service.store.spool_drain import Drain, Merge, OnMerged, now_ms
from service.store.spool_file import Held, SpoolFile

log = structlog.get_logger(__name__)

PUT_TIMEOUT_S: Final = 0.8
"""With ``STORE_TIMEOUT_S`` before it, a webhook is answered within two seconds, whatever the disk does."""

RETRY_DISK_S: Final = 5.0
"""How long the spool reports no room after a failed write; then only a new write shows whether the disk still fails."""


class SpoolUnavailableError(UnavailableError):
    """The spool is full, or its disk fails or is too slow."""


class Spool:
    """The asynchronous side of SpoolFile: one thread does all file access, one commit keeps concurrent puts."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._file = open_file(folder, max_bytes)
        if is_open_to_others(Path(folder)):
            log.warning("spool.open_to_others", folder=folder, advice="its changes hold personal data: chmod 700")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: dict[asyncio.Future[None], tuple[str, bytes]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._max_bytes = max_bytes
        self._drain = Drain(self._file, self._in_thread)
        self._failed_at = -RETRY_DISK_S
        self._least_refused_bytes = 1
        self.held: Held = self._file.held()
        """As of the last put or drain."""

    @property
    def has_room(self) -> bool:
        """Whether the next webhook would probably be kept, judging by the last ones."""
        is_failing = time.monotonic() - self._failed_at < RETRY_DISK_S
        return not is_failing and self.held.bytes + self._least_refused_bytes <= self._max_bytes

    async def put(self, change: CallChange) -> None:
        """Keep the change; it is on the disk when this returns.

        Raises:
            SpoolUnavailableError: it could not be written, or not in time.
        """
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting[kept] = (change.call_id.decode(), encode_spooled(change))
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write(), name="spool-writer")
        try:
            async with asyncio.timeout(PUT_TIMEOUT_S):
                await kept
        except TimeoutError:
            raise SpoolUnavailableError("The spool's disk does not answer; try again in a second") from None
        finally:
            # A refused put must not stay queued: refused puts would pile up behind a disk that hangs.
            self._waiting.pop(kept, None)

    async def drain_some(self, merge: Merge, on_merged: OnMerged) -> int:
        """Merge a batch; returns how many no longer wait. Changes that Redis did not take wait, and block no others."""
        self.held = await self._in_thread(self._file.held)
        if not self.held.waiting:
            return 0
        drained = await self._drain.drain_some(merge, on_merged)
        self.held = await self._in_thread(self._file.held)
        if drained.stored:
            log.info("spool.drained", stored=drained.stored, waiting=self.held.waiting)
        return drained.stored

    async def drain_all(self, merge: Merge, on_merged: OnMerged) -> None:
        """Merge all changes that Redis takes now."""
        await self._drain.drain_all(merge, on_merged)
        self.held = await self._in_thread(self._file.held)

    async def drain_in_background(self, merge: Merge, on_merged: OnMerged) -> None:
        """As ``drain_some``, but logs a failing disk and pauses for RETRY_DISK_S."""
        try:
            await self.drain_some(merge, on_merged)
        except sqlite3.Error as exc:
            log.warning("spool.not_drained", error=str(exc))
            await asyncio.sleep(RETRY_DISK_S)

    async def close(self) -> None:
        """Call it after cancelling the drain: finishes the current writes and releases the drain's claims."""
        if self._writing is not None:
            await self._writing
        with suppress(sqlite3.Error):
            await self._drain.close()
        await self._in_thread(self._file.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        """Commit all waiting changes at once, and again until none waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            try:
                kept = await self._in_thread(self._file.put, list(batch.values()), now_ms())
                self.held = await self._in_thread(self._file.held)
            except (sqlite3.Error, OSError) as exc:
                log.warning("spool.not_written", error=str(exc))
                self._failed_at = time.monotonic()
                for waiter in batch:
                    _answer(waiter, SpoolUnavailableError("Neither Redis nor the spool's disk can take it now"))
                continue
            refused = [len(change) for (_, change), is_kept in zip(batch.values(), kept, strict=True) if not is_kept]
            self._least_refused_bytes = min(refused, default=1)
            for waiter, is_kept in zip(batch, kept, strict=True):
                full = SpoolUnavailableError("Neither Redis nor the spool, which is full, can take it now")
                _answer(waiter, None if is_kept else full)

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _answer(waiter: asyncio.Future[None], error: Exception | None) -> None:
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
