"""Batches of calls in Redis: which calls are placed, which are being dialled, and whether their replica still lives."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

import msgspec

from service.errors import KeyReusedError
from service.redis_client.command import Argument, Commands
from service.store.keys import Keys, bucket_of
from service.store.lua import load_script

KEPT_MS: Final = 24 * 3600 * 1000
"""How long a batch is kept, from its beginning: as long as an Idempotency-Key."""

LEASE_MS: Final = 10_000
"""A replica that has not written for this long counts as dead. Redis usually fails over in less time."""


class BatchClaim(msgspec.Struct, frozen=True):
    """One attempt to be the request that begins a batch."""

    batch_id: str
    """32 hexadecimal digits; the same for the same Idempotency-Key."""
    fingerprint: bytes
    """Of the request. The same key with another request is refused."""
    token: bytes
    total: int


class BatchStanding(msgspec.Struct, frozen=True):
    """The progress of a batch."""

    results: list[bytes | None]
    """One JSON object per call, in order; None for calls without a result yet."""

    @property
    def done(self) -> int:
        return sum(result is not None for result in self.results)

    @property
    def is_done(self) -> bool:
        return None not in self.results


class LeftBehind(msgspec.Struct, frozen=True):
    """The results given to calls of a batch whose replica died, as JSON objects."""

    not_placed: bytes
    unknown: bytes


def create_batch_claim(key: str | None, fingerprint: bytes, total: int) -> BatchClaim:
    """Without a key each request is a batch of its own."""
    token = b"%032x" % random.getrandbits(128)
    seed = b"batch " + key.encode() if key is not None else token
    return BatchClaim(hashlib.sha256(seed).hexdigest()[:32], fingerprint, token, total)


class BatchStore:
    """Everything done to batches in Redis.

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._begin_script = load_script("batch_begin.lua")
        self._dial_script = load_script("batch_dial.lua")
        self._write_script = load_script("batch_write.lua")
        self._read_script = load_script("batch_read.lua")
        self._free_script = load_script("batch_free.lua")

    async def begin(self, claim: BatchClaim) -> bool:
        """True when we are to dial its calls; False when the same request began the batch already.

        Call ``free`` after StoreUnavailableError: the batch may have begun, and only the reply got lost.

        Raises:
            KeyReusedError: the key stands for another request.
        """
        bucket, key = self._place_of(claim.batch_id)
        outcome = await self._begin_script.run(
            self._redis, bucket, key, claim.fingerprint, claim.token, claim.total, LEASE_MS, KEPT_MS,
            keys=1, is_durable=True,
        )  # fmt: skip
        if outcome == b"other":
            raise KeyReusedError("This Idempotency-Key was used with another request; it is kept for 24 hours")
        return bool(outcome == b"begun")

    async def free(self, claim: BatchClaim) -> None:
        """Remove a batch of which nothing was dialled. A batch that another request began stays."""
        bucket, key = self._place_of(claim.batch_id)
        await self._free_script.run(self._redis, bucket, key, claim.token, keys=1, is_durable=True)

    async def mark_dialling(self, claim: BatchClaim, index: int) -> bool:
        """Whether the call may be dialled now; False when it was reported as not placed already."""
        bucket, key = self._place_of(claim.batch_id)
        return bool(await self._dial_script.run(self._redis, bucket, key, claim.token, index, keys=1, is_durable=True))

    async def write(self, claim: BatchClaim, results: Mapping[int, bytes]) -> bool:
        """Keep these results, by index, and renew the lease; False when the batch is gone."""
        bucket, key = self._place_of(claim.batch_id)
        pairs: Iterator[Argument] = chain.from_iterable(results.items())
        return bool(
            await self._write_script.run(
                self._redis, bucket, key, claim.token, LEASE_MS, *pairs, keys=1, is_durable=bool(results)
            )
        )

    async def find(self, batch_id: str, left_behind: LeftBehind) -> BatchStanding | None:
        """The batch's progress; None when there is none. Calls that a dead replica left get their results here."""
        bucket, key = self._place_of(batch_id)
        reply = await self._read_script.run(self._redis, bucket, key, b"", b"", keys=1)
        if reply and reply[0]:
            reply = await self._read_script.run(
                self._redis, bucket, key, left_behind.not_placed, left_behind.unknown, keys=1, is_durable=True
            )
        return BatchStanding([result or None for result in reply[1]]) if reply else None

    def _place_of(self, batch_id: str) -> tuple[int, bytes]:
        name = batch_id.encode()
        bucket = bucket_of(name)
        return bucket, self._keys.batch(bucket, name)
