"""Idempotency keys in Redis: which request claimed each, and the first answer to it, for 24 hours."""

from __future__ import annotations

import hashlib
import random
from typing import Final

import msgspec

from service.errors import ConflictError, KeyReusedError
from service.redis_client.command import Commands
from service.store.keys import PROBE_TTL_MS, Keys, bucket_of
from service.store.lua import load_script

KEPT_MS: Final = 24 * 3600 * 1000
"""Counted from the claim. A request repeated later than this places another call."""


class KeyClaim(msgspec.Struct, frozen=True):
    """One attempt to be the request that a key stands for."""

    digest: bytes
    """Of the caller's key. That may hold any characters, so the digest is used in our key's name."""
    fingerprint: bytes
    """Of the request. The same key with another request is refused."""
    token: bytes


def create_claim(key: str, fingerprint: bytes) -> KeyClaim:
    digest = hashlib.sha256(key.encode()).hexdigest().encode()
    return KeyClaim(digest, fingerprint, b"%032x" % random.getrandbits(128))


class IdempotencyStore:
    """Everything done to idempotency keys in Redis. A key whose process died stays claimed until it expires.

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._claim_script = load_script("idempotency_claim.lua")
        self._answer_script = load_script("idempotency_answer.lua")
        self._free_script = load_script("idempotency_free.lua")

    async def take(self, claim: KeyClaim) -> bytes | None:
        """Claim the key. Returns the first answer if the same request was answered before, None if the key is ours now.

        Call ``free`` after StoreUnavailableError: the key may be claimed, and only the reply got lost.

        Raises:
            ConflictError: the same request is under way, or nobody knows what became of it.
            KeyReusedError: the key stands for another request.
        """
        bucket, key = self._place_of(claim)
        outcome, answer = await self._claim_script.run(
            self._redis, bucket, key, claim.fingerprint, claim.token, KEPT_MS, keys=1, is_durable=True
        )
        if outcome == b"other":
            raise KeyReusedError("This Idempotency-Key was used with another request; it is kept for 24 hours")
        if outcome == b"running":
            raise ConflictError(
                "The first request with this Idempotency-Key is still running, or nobody knows what became of it"
            )
        kept: bytes = answer
        return kept if outcome == b"answered" else None

    async def keep(self, claim: KeyClaim, answer: bytes) -> None:
        """Store the answer, unless another claim has the key by now."""
        bucket, key = self._place_of(claim)
        await self._answer_script.run(
            self._redis, bucket, key, claim.fingerprint, claim.token, answer, KEPT_MS, keys=1, is_durable=True
        )

    async def free(self, claim: KeyClaim) -> None:
        """Free the key of a request that had no effect. A key that another claim has stays claimed."""
        bucket, key = self._place_of(claim)
        await self._free_script.run(self._redis, bucket, key, claim.token, keys=1, is_durable=True)

    async def verify_writable(self) -> None:
        """Raises StoreUnavailableError unless Redis takes writes now; for requests that come without a key."""
        await self._redis.execute(b"SET", self._keys.probes[0], b"1", b"PX", PROBE_TTL_MS, is_durable=True)

    def _place_of(self, claim: KeyClaim) -> tuple[int, bytes]:
        bucket = bucket_of(claim.digest)
        return bucket, self._keys.idempotency(bucket, claim.digest)
