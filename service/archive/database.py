"""The archive: one row per call in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from service.calls.facts import LARGE_FACTS
from service.calls.stamped_call import StampedCall
from service.config import Settings


class WriteResult(msgspec.Struct, frozen=True):
    """What became of the calls that were to be written."""

    failed: dict[bytes, str] = {}
    """The calls that PostgreSQL will never take, each with the reason. All others are rows now."""


class Erased(msgspec.Struct, frozen=True):
    """What was erased of a phone number."""

    call_ids: list[bytes]


class ArchivePage(msgspec.Struct, frozen=True):
    """One page of a number's archived calls, newest ``updated_at`` first, without transcripts and messages."""

    calls: list[StampedCall]
    count: int
    """The number of all archived calls of the number."""


class Archive:
    """Everything done to the archive.

    Every method raises ArchiveUnavailableError when PostgreSQL does not answer by ``deadline`` (``time.monotonic``).
    """

    def __init__(self, settings: Settings) -> None:
        raise NotImplementedError

    async def write(
        self,
        changes: Sequence[StampedCall],
        deletions: Mapping[bytes, int],
        *,
        deadline: float | None = None,
    ) -> WriteResult:
        """Merge records into their rows, and delete rows, in one transaction. Without a deadline: within 10 s.

        ``deletions`` has for each deleted call the ms of its deletion. Nothing that a deletion or ``forget`` has
        erased comes back by messages stamped before it.
        """
        raise NotImplementedError

    async def find(
        self, call_id: bytes, large: tuple[str, ...] = LARGE_FACTS, *, deadline: float
    ) -> StampedCall | None:
        raise NotImplementedError

    async def find_page(self, phone: str, *, offset: int, limit: int, deadline: float) -> ArchivePage:
        raise NotImplementedError

    async def forget(self, phone: str, *, now_ms: int, deadline: float) -> Erased:
        """Erase the rows of a number, its ``customer_phone`` or ``provider_phone``. ``write`` obeys it for 30 days."""
        raise NotImplementedError

    async def prune(self, older_than_days: int, *, deadline: float | None = None) -> int:
        """Remove some rows of calls that began so many days ago; 0 when there are none left."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
