"""Subscriptions in Redis: the Kestra executions to resume when a call's record is final, each tried under a lease."""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec

from service.config import Settings
from service.errors import ServiceError, StoreUnavailableError, TooManyRequestsError, UnavailableError
from service.redis_client.command import Argument, Commands
from service.store.keys import Keys, bucket_of
from service.store.lua import load_script
from service.store.subscription_room import SubscriptionRoom

LEASE_MS: Final = 10_000
"""How long one try to resume an execution may take; then another process may try."""

SUBSCRIPTIONS_AT_MOST: Final = 100
"""Per call. Usually one execution waits for a call, or a few; many more are a mistake in a flow."""

UNKNOWN_LIFE_MS: Final = 3_600_000
"""An hour: the life of a subscription to a call that has no record yet."""

ResumeResult = Literal["resumed", "dropped", "retried"]


_REFUSALS: Final[dict[bytes, tuple[type[ServiceError], str]]] = {
    b"call_is_full": (TooManyRequestsError, f"This call has {SUBSCRIPTIONS_AT_MOST} subscriptions already"),
    b"too_many": (TooManyRequestsError, "There are MAX_SUBSCRIPTIONS subscriptions already"),
    b"too_many_unknown": (
        TooManyRequestsError,
        "Too many subscriptions wait for calls that nobody knows; subscribe once the call was placed",
    ),
    b"nearly_full": (UnavailableError, "Redis is nearly full; what is left is kept for webhooks"),
}


class ResumeClaim(msgspec.Struct, frozen=True):
    """One try to resume an execution. Only this process may try while the lease lasts."""

    call_id: bytes
    execution_id: bytes
    number: int
    """The number of this try, from 1."""
    tried_for_ms: int
    """Time since the first try; 0 for the first."""
    subscribed_at_ms: int = 0
    """By Redis's clock; 0 if a replica of the previous version stored it."""
    pause_number: int = 0
    """``Pause.number`` of the pause that an earlier try saw; 0 if none did."""
    task_run_id: bytes = b""


class SubscriptionStore:
    """Everything done to subscriptions in Redis, except by merges and deletions (CallStore).

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.
    """

    def __init__(self, settings: Settings, redis: Commands, keys: Keys, *, lease_ms: int = LEASE_MS) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_ms
        self._process = b"%x" % random.getrandbits(64)
        self._unanswered: dict[int, bytes] = {}
        """Per bucket, the token of a claim whose reply was lost: Redis may have granted it."""
        self._life = (min(UNKNOWN_LIFE_MS, settings.pending_ttl_ms), settings.result_ttl_ms)
        self._room = SubscriptionRoom(settings, redis, keys)
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._subscribe_script = load_script("subscribe.lua")
        self._claim_script = load_script("claim_due.lua")
        self._note_pause_script = load_script("note_pause.lua")
        self._end_claim_script = load_script("end_claim.lua")

    async def subscribe(self, call_id: bytes, execution_id: bytes) -> bool:
        """Store a subscription of the execution to the call; one that is stored already is left as it is.

        Returns whether the execution is to be resumed now, because the record is final or deleted.

        Raises:
            TooManyRequestsError: it is new, and its call, or all calls together, have too many already.
            UnavailableError: it is new, and Redis is nearly full.
        """
        bucket = bucket_of(call_id)
        await self._room.refresh()
        refusals = self._room.refusals(bucket)
        with self._room.reserved() as added:
            outcome, is_added = await self._subscribe_script.run(
                self._redis,
                bucket,
                self._keys.call(call_id),
                *self._keys_of(call_id),
                self._keys.subscribed(bucket),
                *self._keys.counted_subscriptions(bucket),
                call_id,
                execution_id,
                *self._life,
                self._index_ttl_ms,
                SUBSCRIPTIONS_AT_MOST,
                *refusals,
                keys=6,
                is_durable=True,
            )
            if is_added:
                added.append(is_added.decode())
        if (refusal := _REFUSALS.get(outcome)) is not None:
            raise refusal[0](refusal[1])
        return bool(outcome == b"due")

    async def claim(self, bucket: int, limit: int) -> tuple[list[ResumeClaim], bool]:
        """Claim up to ``limit`` due subscriptions of a bucket, longest due first; and whether more are left.

        After a claim whose reply was lost, the next claim returns the same subscriptions with a new lease.
        """
        token = self._unanswered.pop(bucket, None) or b"%x" % random.getrandbits(64)
        try:
            left, *flat = await self._claim_script.run(
                self._redis,
                bucket,
                self._keys.due(bucket),
                self._keys.claimed(bucket, self._process),
                self._keys.subscriptions[bucket],
                limit,
                self._lease_ms,
                self._index_ttl_ms,
                token,
                keys=2,
            )
        except StoreUnavailableError:
            self._unanswered[bucket] = token
            raise
        claims = [ResumeClaim(*flat[place : place + 7]) for place in range(0, len(flat), 7)]
        return claims, left > 0

    async def note_pause(self, claim: ResumeClaim, number: int, task_run_id: bytes) -> bool:
        """Store which pause of its execution a try is about to end; False if another try holds the subscription."""
        event: tuple[Argument, ...] = (claim.execution_id, claim.number, number, task_run_id)
        key = self._keys_of(claim.call_id)[0]
        return bool(
            await self._note_pause_script.run(
                self._redis, bucket_of(claim.call_id), key, *event, keys=1, is_durable=True
            )
        )

    async def end_claim(self, claim: ResumeClaim, result: ResumeResult, *, retry_in_ms: int = 0) -> bool:
        """Record the result of a try; False if another try recorded one, or the subscription is gone."""
        event: tuple[Argument, ...] = (claim.call_id, claim.execution_id, claim.number, result, retry_in_ms)
        keys = self._keys_of(claim.call_id)
        return bool(await self._end_claim_script.run(self._redis, bucket_of(claim.call_id), *keys, *event, keys=2))

    def _keys_of(self, call_id: bytes) -> tuple[bytes, bytes]:
        bucket = bucket_of(call_id)
        return self._keys.subscriptions[bucket] + call_id, self._keys.due(bucket)
