"""Forgets a phone number in Redis: deletes its calls, and has earlier events refused, whichever replica or spool has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from service.calls.phone import digest_of_phone, phone_digests
from service.calls.stored_call import StoredCall
from service.redis_client.command import Commands
from service.store.calls import CallStore
from service.store.keys import BUCKETS, Keys
from service.store.lua import load_script

FORGOTTEN_FOR_MS: Final = 30 * 86_400_000

SCANNED_AT_ONCE: Final = 1000


class Forgetting:
    """Erases numbers. Raises StoreUnavailableError where a bucket does not answer: run it again, it is harmless."""

    def __init__(self, redis: Commands, keys: Keys, calls: CallStore) -> None:
        self._redis = redis
        self._keys = keys
        self._calls = calls
        self._script = load_script("forget_number.lua")

    async def forget(self, phone: str, call_ids: Sequence[bytes] = ()) -> list[bytes]:
        """Forget a number and delete these calls, and all others of which it is customer_phone or provider_phone.

        Returns the calls whose record was in Redis. From now on no event that happened before is taken, on any
        replica, if it names the number.
        """
        digest = digest_of_phone(phone)
        for bucket in range(BUCKETS):
            await self._script.run(self._redis, bucket, self._keys.forgotten[bucket], digest, FORGOTTEN_FOR_MS, keys=1)
        # After that, so that no record of the number can appear behind the search.
        found = await self._find_calls(digest)
        return [call_id for call_id in sorted({*found, *call_ids}) if await self._calls.delete(call_id)]

    async def _find_calls(self, digest: str) -> list[bytes]:
        found: list[bytes] = []
        for bucket in range(BUCKETS):
            updates, start = self._keys.updates(bucket), 0
            # Newest first: a call that changes meanwhile makes us see another one twice, instead of not at all.
            while call_ids := await self._redis.execute(
                "ZREVRANGE", updates, start, start + SCANNED_AT_ONCE - 1, bucket=bucket
            ):
                start += len(call_ids)
                calls = await asyncio.gather(*map(self._calls.find, call_ids))
                found += [
                    call_id
                    for call_id, call in zip(call_ids, calls, strict=True)
                    if isinstance(call, StoredCall) and digest in phone_digests(call.facts)
                ]
        return found
