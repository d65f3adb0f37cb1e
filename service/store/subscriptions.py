"""Who is to be told when a call's record is final, in Redis: noted, taken up under a lease, settled."""

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
"""How long whoever took a subscription up has for one try; then somebody else may."""

SUBSCRIPTIONS_AT_MOST: Final = 100
"""Of one call. One execution waits for it, or a few; many more are a mistake in a flow."""

UNKNOWN_LIFE_MS: Final = 3_600_000
"""An hour, for a subscription of a call that has no record yet."""

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
    """One try to resume an execution, ours alone while its lease lasts."""

    call_id: bytes
    execution_id: bytes
    number: int
    """Of this try, from 1."""
    tried_for_ms: int
    """Since the first try; 0 at that one."""
    subscribed_at_ms: int = 0
    """By Redis's clock; 0 where a replica of the version before noted it."""
    pause_number: int = 0
    """The pause that an earlier try saw, by ``Pause``; 0 when none did."""
    task_run_id: bytes = b""


class SubscriptionStore:
    """Everything done to subscriptions in Redis, beside what merging and deleting do (CallStore).

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.
    """

    def __init__(self, settings: Settings, redis: Commands, keys: Keys, *, lease_ms: int = LEASE_MS) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_ms
        self._process = b"%x" % random.getrandbits(64)
        self._unanswered: dict[int, bytes] = {}
        """Per bucket, the token of a claim that failed: Redis may have taken something up for us all the same."""
        self._life = (min(UNKNOWN_LIFE_MS, settings.pending_ttl_ms), settings.result_ttl_ms)
        self._room = SubscriptionRoom(settings, redis, keys)
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._subscribe_script = load_script("subscribe.lua")
        self._claim_script = load_script("claim_due.lua")
        self._note_pause_script = load_script("note_pause.lua")
        self._settle_script = load_script("settle_subscription.lua")

    async def subscribe(self, call_id: bytes, execution_id: bytes) -> bool:
        """Note that the execution is to be resumed; one that was noted before changes nothing.

        Returns whether it is to be resumed now, because the record is final or deleted.

        Raises:
            TooManyRequestsError: it is a new one, and its call, or all calls together, have as many as they may have.
            UnavailableError: it is a new one, and Redis is nearly full.
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
        """Take up to so many that are due in a bucket, longest due first; and whether more are left.

        After a claim whose reply was lost, the next one returns what that one took up, with a new lease.
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
        """Note which pause of its execution a try is about to end; False when another try holds the subscription."""
        event: tuple[Argument, ...] = (claim.execution_id, claim.number, number, task_run_id)
        key = self._keys_of(claim.call_id)[0]
        return bool(
            await self._note_pause_script.run(
                self._redis, bucket_of(claim.call_id), key, *event, keys=1, is_durable=True
            )
        )

    async def settle(self, claim: ResumeClaim, result: ResumeResult, *, retry_in_ms: int = 0) -> bool:
        """Note what became of a try; False when another try settled it, or nobody waits any more."""
        event: tuple[Argument, ...] = (claim.call_id, claim.execution_id, claim.number, result, retry_in_ms)
        keys = self._keys_of(claim.call_id)
        return bool(await self._settle_script.run(self._redis, bucket_of(claim.call_id), *keys, *event, keys=2))

    def _keys_of(self, call_id: bytes) -> tuple[bytes, bytes]:
        bucket = bucket_of(call_id)
        return self._keys.subscriptions[bucket] + call_id, self._keys.due(bucket)
