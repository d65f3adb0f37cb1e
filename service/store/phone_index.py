"""Pages of a phone number's calls, newest first. The cost of a page does not grow with the number of calls."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from service.config import Settings
from service.errors import StoreUnavailableError, UnavailableError
from service.redis_client.command import Commands
from service.store.all_buckets import BucketReplies, ask_all_buckets
from service.store.keys import BUCKETS, Keys
from service.store.lua import load_script

DEEP_ENTRIES: Final = 1_000
"""Pages that read more index entries than this are read one at a time: 20 at once held up webhooks for a second."""

PAGES_AT_ONCE: Final = 4
"""With 200 pages of 2 MB read at once, a webhook waited 5 s for its turn on the event loop."""

DEEP_BUCKETS_AT_ONCE: Final = 4
"""A deep page reads so many buckets at once, so that other commands and other requests get their turn in between."""


class PhonePage(msgspec.Struct, frozen=True):
    """One page of a number's calls."""

    call_ids: list[bytes]
    """Newest ``updated_at`` first; for the same time, the greater id first."""
    count: int
    """The number of all live calls of the phone number."""
    missing_buckets: tuple[int, ...] = ()
    """These did not answer, so the page lacks some or all of their calls."""


class _Newest(msgspec.Struct, frozen=True):
    """The reply of one bucket."""

    asked: int
    count: int
    entries: list[tuple[int, bytes]]
    """(updated_at in ms, call id), newest first."""

    def may_have_more(self, oldest: tuple[int, bytes] | None) -> bool:
        """Whether the bucket may have further calls that are newer than this entry."""
        return len(self.entries) == self.asked and (oldest is None or self.entries[-1] > oldest)


class PhoneIndex:
    """Reads the phone indices that merge_call.lua and delete_call.lua write."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._index_ttl_ms = 2 * max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._script = load_script("newest_of_phone.lua")
        self._page = asyncio.Semaphore(PAGES_AT_ONCE)
        self._deep_page = asyncio.Lock()
        self._deep_buckets = asyncio.Semaphore(DEEP_BUCKETS_AT_ONCE)

    @asynccontextmanager
    async def turn(self, entries: int, deadline: float | None = None) -> AsyncIterator[None]:
        """Read a page of so many index entries (offset + limit), and its calls, inside this block.

        Raises:
            UnavailableError: other pages took all the time until ``deadline``.
        """
        turns = (self._deep_page, self._page) if entries > DEEP_ENTRIES else (self._page,)
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                    for turn in turns:
                        await taken.enter_async_context(turn)
            except TimeoutError as exc:
                raise UnavailableError("Too many pages at once; ask again in a second") from exc
            yield

    async def find_page(self, phone: bytes, *, offset: int, limit: int, deadline: float | None = None) -> PhonePage:
        """The ids from ``offset`` on. ``phone`` is the content of the record's JSON string, without the quotes.

        Each bucket is asked for its share of offset + limit. Buckets that may have more calls of the page are then
        asked for twice as many, and so on.

        Raises:
            StoreUnavailableError: no bucket answers within ``STORE_TIMEOUT_S``, or by ``deadline`` (``time.monotonic``).
        """
        wanted = offset + limit
        first = await self._ask(phone, dict.fromkeys(range(BUCKETS), _share_of(wanted)), deadline)
        buckets, missing = {**first.replies}, {*first.missing}
        while True:
            entries = sorted((entry for bucket in buckets.values() for entry in bucket.entries), reverse=True)[:wanted]
            oldest = entries[-1] if len(entries) == wanted else None
            more = {
                number: min(wanted, 2 * bucket.asked)
                for number, bucket in buckets.items()
                if bucket.asked < wanted and number not in missing and bucket.may_have_more(oldest)
            }
            if not more:
                call_ids = [call_id for _, call_id in entries[offset:]]
                return PhonePage(call_ids, sum(bucket.count for bucket in buckets.values()), tuple(sorted(missing)))
            try:
                again = await self._ask(phone, more, deadline)
            except StoreUnavailableError:
                missing |= more.keys()
            else:
                buckets |= again.replies
                missing |= {*again.missing}

    async def _ask(self, phone: bytes, sizes: dict[int, int], deadline: float | None) -> BucketReplies[_Newest]:
        async def ask(bucket: int) -> _Newest:
            if sizes[bucket] <= _share_of(DEEP_ENTRIES):
                return await self._newest(bucket, phone, sizes[bucket], deadline)
            async with self._deep_buckets:
                return await self._newest(bucket, phone, sizes[bucket], deadline)

        return await ask_all_buckets(ask, sizes)

    async def _newest(self, bucket: int, phone: bytes, size: int, deadline: float | None) -> _Newest:
        rank = 0
        while True:
            rank, count, flat = await self._script.run(
                self._redis,
                bucket,
                self._keys.phones[bucket] + phone,
                self._keys.phone_updates[bucket] + phone,
                self._keys.updates(bucket),
                size,
                rank,
                self._index_ttl_ms,
                keys=3,
                deadline=deadline,
            )
            if rank < 0:
                moments = map(int, flat[1::2])
                return _Newest(size, count, list(zip(moments, flat[::2], strict=True)))


def _share_of(wanted: int) -> int:
    """How many of the newest ``wanted`` calls one bucket has at most. One bucket in some thousands has more.

    Call ids spread over the buckets by chance, so the number varies by about its square root.
    """
    even = wanted / BUCKETS
    return min(wanted, math.ceil(even + 4 * math.sqrt(even) + 2))
