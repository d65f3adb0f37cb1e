"""The streams that say which calls are to be written to the archive: one in each bucket, read by all replicas together.

An entry names a call, not what changed: the row is made from the record, which lives until it is one
(store/lua/record_life.lua).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from service.errors import StoreUnavailableError
from service.redis_client.command import Commands
from service.store.all_buckets import ask_all_buckets
from service.store.keys import COUNTS_BUCKET, Keys
from service.store.lua import load_script

GROUP: Final = b"archive"

LAYOUT: Final = b"1"
"""Of an entry's fields. Entries of another layout are left for the version that knows it."""

TAKEN_OVER_AFTER_MS: Final = 15_000
"""A process that has not written an entry by then is dead or has lost it: a write takes 10 s at most."""

CONSUMER_DEAD_AFTER_MS: Final = 600_000
"""A consumer that asks for nothing for so long was a process that is gone: each asks twice a second."""

STREAM_LIFE_MS: Final = 7 * 86_400_000
"""So the streams go away once no replica has an archive."""

LOOKED_AT_PER_PHONE: Final = 10_000

SET_ASIDE_AT_MOST: Final = 100

GIVEN_UP_AT_ONCE: Final = 100
"""Entries that one command looks at, so that Redis is not blocked for more than about a millisecond."""


class ArchiveEntry(msgspec.Struct, frozen=True):
    """A call that changed, or was deleted at ``deleted_at_ms``."""

    id: bytes
    call_id: bytes
    deleted_at_ms: int = 0


class StreamLook(msgspec.Struct, frozen=True):
    """What a look at one bucket's stream found."""

    now_ms: int
    length: int
    """Entries that are not done, whoever has read them."""
    oldest_ms: int
    """When the oldest of them was added; 0 if there is none."""
    entries: list[ArchiveEntry]
    """Those that are now this process's to write."""
    is_full: bool
    """True when there may be more to read at once."""


class SetAside(msgspec.Struct, frozen=True):
    """A call that PostgreSQL refuses."""

    at_ms: int
    call_id: str
    reason: str


class Unarchived(msgspec.Struct, frozen=True):
    """The calls of a number whose last change is not in the archive."""

    updated_at_ms: dict[bytes, int]
    """By call id."""
    missing_buckets: tuple[int, ...]
    """These did not answer; their calls are missing."""


class ArchiveStream:
    """Everything done to the archive's streams, except by merges and deletions (CallStore).

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.

    Args:
        consumer: identifies this process.
    """

    def __init__(self, redis: Commands, keys: Keys, *, consumer: bytes) -> None:
        self._redis = redis
        self._keys = keys
        self._consumer = consumer
        self._read_script = load_script("archive_entries.lua")
        self._done_script = load_script("archive_done.lua")
        self._give_up_script = load_script("archive_give_up.lua")
        self._consumers_script = load_script("archive_consumers.lua")
        self._of_phone_script = load_script("unarchived_of_phone.lua")

    async def read(self, bucket: int, most: int, *, takes_over: bool = False) -> StreamLook:
        """Up to ``most`` entries that nobody has read, and with ``takes_over`` those of processes that are dead."""
        reply: list[Any] = await self._read_script.run(
            self._redis,
            bucket,
            self._keys.archives[bucket],
            GROUP,
            self._consumer,
            most,
            TAKEN_OVER_AFTER_MS if takes_over else b"",
            STREAM_LIFE_MS,
            self._keys.calls[bucket],
            keys=1,
        )
        now_ms, length, oldest_ms, raw = reply
        return StreamLook(now_ms, length, oldest_ms, list(_known(raw)), is_full=0 < most <= len(raw))

    async def end(self, bucket: int, entries: Sequence[ArchiveEntry]) -> None:
        """The archive has these changes, or never will: remove the entries, and let go of the records."""
        ended = ((entry.id, entry.call_id) for entry in entries)
        await self._done_script.run(
            self._redis, bucket, *self._keys_of(bucket), *self._names_of(bucket), *chain.from_iterable(ended), keys=4
        )

    async def give_up(self, bucket: int, most: int, *, before_ms: int | None = None, only_expired: bool = False) -> int:
        """Give up the oldest changes of a bucket, ``most`` or up to GIVEN_UP_AT_ONCE more.

        Returns the number of calls whose last change the archive will now lack.

        ``before_ms``: give up only changes from before that time. ``only_expired``: give up only records that would be gone
        if they were not held.
        """
        given_up, start = 0, b"-"
        while given_up < most and start:
            some, start = await self._give_up_script.run(
                self._redis, bucket, *self._keys_of(bucket), *self._names_of(bucket), start, GIVEN_UP_AT_ONCE,
                b"" if before_ms is None else before_ms, b"1" if only_expired else b"0", keys=4,
            )  # fmt: skip
            given_up += some
        return given_up

    async def tidy_consumers(self, bucket: int) -> None:
        """Forget processes that ended and have no entries left."""
        await self._run_consumers(bucket, b"tidy", CONSUMER_DEAD_AFTER_MS)

    async def give_back(self, bucket: int) -> None:
        """Let others write at once what this process has read but not written."""
        await self._run_consumers(bucket, b"give_back", TAKEN_OVER_AFTER_MS + 1)

    async def find_unarchived(self, phone: bytes, *, deadline: float | None = None) -> Unarchived:
        """Looks in Redis, in all buckets at once. Raises StoreUnavailableError only when none answers."""

        async def of_bucket(bucket: int) -> list[bytes]:
            found: list[bytes] = await self._of_phone_script.run(
                self._redis, bucket, self._keys.phone_updates[bucket] + phone, self._keys.calls[bucket],
                LOOKED_AT_PER_PHONE, keys=1, deadline=deadline,
            )  # fmt: skip
            return found

        buckets = await ask_all_buckets(of_bucket)
        flat = list(chain.from_iterable(buckets.replies.values()))
        return Unarchived(dict(zip(flat[::2], map(int, flat[1::2]), strict=True)), buckets.missing)

    async def set_aside(self, failures: Mapping[bytes, str]) -> None:
        """Keep what PostgreSQL refuses, and why, for the stats: the newest SET_ASIDE_AT_MOST."""
        for call_id, reason in failures.items():
            await self._redis.execute(
                "XADD", self._keys.archive_failures, "MAXLEN", SET_ASIDE_AT_MOST, "*",
                "call", call_id, "reason", reason[:200], bucket=COUNTS_BUCKET,
            )  # fmt: skip
        await self._redis.execute("PEXPIRE", self._keys.archive_failures, STREAM_LIFE_MS, bucket=COUNTS_BUCKET)

    async def find_set_aside(self) -> list[SetAside]:
        """Newest first. Empty also while the bucket that holds them is away."""
        try:
            entries: list[Any] = await self._redis.execute(
                "XRANGE", self._keys.archive_failures, "-", "+", bucket=COUNTS_BUCKET
            )
        except StoreUnavailableError:
            return []
        return [
            SetAside(int(entry_id.partition(b"-")[0]), fields[1].decode(), fields[3].decode(errors="replace"))
            for entry_id, fields in reversed(entries)
        ]

    async def _run_consumers(self, bucket: int, action: bytes, idle_ms: int) -> None:
        stream = self._keys.archives[bucket]
        await self._consumers_script.run(self._redis, bucket, stream, GROUP, self._consumer, action, idle_ms, keys=1)

    def _keys_of(self, bucket: int) -> tuple[bytes, ...]:
        keys = self._keys
        expiry, updates, *_ = keys.indices[bucket]
        return keys.archives[bucket], expiry, updates, keys.held[bucket]

    def _names_of(self, bucket: int) -> tuple[bytes, ...]:
        keys = self._keys
        return GROUP, keys.calls[bucket], keys.subscriptions[bucket], keys.phones[bucket]


def _known(raw: list[Any]) -> Iterator[ArchiveEntry]:
    """The entries whose layout this version knows."""
    for entry_id, flat in raw:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if fields.get(b"layout") != LAYOUT:
            continue
        if b"deleted" in fields:
            yield ArchiveEntry(entry_id, fields[b"deleted"], int(fields[b"at"]))
        else:
            yield ArchiveEntry(entry_id, fields[b"call"])
