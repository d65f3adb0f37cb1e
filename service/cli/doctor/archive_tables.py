"""Looks at the archive: whether PostgreSQL answers, what its tables lack, and how long changes wait for it."""

from __future__ import annotations

import time
from typing import Final

from service.archive.connection import PostgresPool
from service.archive.migrate import find_missing
from service.cli.doctor.checking import SHARE_OF_DEADLINE, Check
from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.errors import ArchiveUnavailableError
from service.redis_client.command import Commands
from service.store.all_buckets import ask_all_buckets
from service.store.archive_stream import ArchiveStream
from service.store.keys import Keys

LATE_S: Final = 60.0


class ArchiveTables:
    def __init__(self, settings: Settings, redis: Commands, keys: Keys, within_s: float) -> None:
        self._pool = PostgresPool(settings.database_url.reveal()) if settings.database_url else None
        self._is_embedded = settings.redis_url.startswith("memory:")
        self._stream = ArchiveStream(redis, keys, consumer=b"doctor")
        self._within_s = SHARE_OF_DEADLINE * within_s

    @property
    def checks(self) -> list[Check]:
        if self._pool is None:
            return [Check("database", self._find_none)]
        backlog = [] if self._is_embedded else [Check("backlog", self._find_backlog)]
        return [Check("database", self._find_tables), *backlog]

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def _find_none(self) -> list[Finding]:
        return [ok("database", "DATABASE_URL is not set: calls are kept only in Redis, until they expire")]

    async def _find_tables(self) -> list[Finding]:
        assert self._pool is not None
        try:
            missing = await find_missing(self._pool, time.monotonic() + self._within_s)
        except ArchiveUnavailableError as exc:
            mend = (
                "check DATABASE_URL, the network, and the server; until then changes wait in Redis, for a day at most"
            )
            return [error("database", f"PostgreSQL cannot be used: {exc.reason}", mend)]
        if missing:
            return [error("database", "; ".join(missing), "run `python -m service archive migrate`")]
        return [ok("database", "PostgreSQL answers and has all tables")]

    async def _find_backlog(self) -> list[Finding]:
        """By the length of the streams; their entries are left to the replicas."""
        looks = (await ask_all_buckets(lambda bucket: self._stream.read(bucket, 0))).replies.values()
        waiting = sum(look.length for look in looks)
        age_s = max((look.now_ms - look.oldest_ms for look in looks if look.oldest_ms), default=0) / 1000
        if age_s > LATE_S:
            mend = "start a replica with DATABASE_URL, or see in the runbook what VapiArchiveBehind says"
            return [warning("backlog", f"{waiting} changes wait for the archive, the oldest for {age_s:.0f} s", mend)]
        return [ok("backlog", f"{waiting} changes wait for the archive")]
