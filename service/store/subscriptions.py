"""Subscriptions in Redis: who is to be told when a call's record is final, each tried under a lease."""

from __future__ import annotations

import random
from typing import Final, Literal

import msgspec

from service.config import Settings
from service.errors import ServiceError, StoreUnavailableError, TooManyRequestsError, UnavailableError
from service.redis_client.command import Argument, Commands
from service.store.keys import HELD_FOR_MS, Keys, bucket_of
from service.store.lua import load_script
from service.store.subscription_room import SubscriptionRoom

LEASE_MS: Final = 10_000
"""How long one try may take; then another process may try."""

SUBSCRIPTIONS_AT_MOST: Final = 100
"""Per call, executions and callbacks. Usually one waits for a call, or a few; many more are a mistake in a flow."""

CALLBACK_MARK: Final = b"callback "
"""Stands before the states of callbacks, so that replicas of version 0.1.0 leave them alone."""

UNKNOWN_LIFE_MS: Final = 3_600_000
"""An hour: the life of a subscription to a call that has no record yet."""

TryResult = Literal["resumed", "delivered", "dropped", "retried"]
"""Of a try. Executions are resumed, callbacks delivered."""


_REFUSALS: Final[dict[bytes, tuple[type[ServiceError], str]]] = {
    b"call_is_full": (TooManyRequestsError, f"This call has {SUBSCRIPTIONS_AT_MOST} subscriptions already"),
    b"too_many": (TooManyRequestsError, "There are MAX_SUBSCRIPTIONS subscriptions already"),
    b"too_many_unknown": (
        TooManyRequestsError,
        "Too many subscriptions wait for calls that nobody knows; subscribe once the call was placed",
    ),
    b"nearly_full": (UnavailableError, "Redis is nearly full; what is left is kept for webhooks"),
}


class TryClaim(msgspec.Struct, frozen=True):
    """One try to reach a subscriber. Only this process may try while the lease lasts."""

    call_id: bytes
    subscriber: bytes
    """An execution's id, or the tags of a callback's origin and URL."""
    number: int
    """The number of this try, from 1."""
    tried_for_ms: int
    """Time since the first try; 0 for the first."""
    subscribed_at_ms: int
    """By Redis's clock; 0 if a replica of version 0.1.0 stored it."""
    purpose: bytes
    """A callback's URL; for an execution what ``note_pause`` stored."""


class ClaimedTries(msgspec.Struct, frozen=True):
    claims: list[TryClaim]
    are_more_left: bool
    expired: int
    """How many were due, but are gone with their record; nobody has told them."""


class SubscriptionStore:
    """Everything done to subscriptions in Redis, except by merges and deletions (CallStore).

    One store is for the executions, and one for the callbacks of each origin: what is claimed together.
    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``.

    Args:
        room: that of the other stores of this process.
        callbacks_to: ``CallbackUrl.origin_tag`` of the callbacks that the store is for.
    """

    def __init__(
        self,
        settings: Settings,
        redis: Commands,
        keys: Keys,
        room: SubscriptionRoom | None = None,
        *,
        callbacks_to: bytes = b"",
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._origin_tag = callbacks_to
        self._mark = CALLBACK_MARK if callbacks_to else b""
        self._lease_ms = lease_ms
        self._process = b"%x" % random.getrandbits(64)
        self._unanswered: dict[int, bytes] = {}
        """Per bucket, the token of a claim whose reply was lost: Redis may have granted it."""
        self._life = (min(UNKNOWN_LIFE_MS, settings.pending_ttl_ms), settings.result_ttl_ms)
        self._room = room or SubscriptionRoom(settings, redis, keys)
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms, HELD_FOR_MS if callbacks_to else 0)
        self._subscribe_script = load_script("subscribe.lua")
        self._claim_script = load_script("claim_due.lua")
        self._note_pause_script = load_script("note_pause.lua")
        self._end_claim_script = load_script("end_claim.lua")

    async def subscribe(
        self, call_id: bytes, subscriber: bytes, url: bytes = b"", *, is_archived: bool = False
    ) -> bool:
        """Store a subscription to the call, with the URL of a callback; one that is stored already is left as it is.

        Returns whether the subscriber is to be told now, because the record is final or deleted, or ``is_archived``: the
        archive has the final record.

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
                self._subscriptions_key(call_id),
                self._due_key(bucket),
                self._keys.subscribed(bucket),
                *self._keys.counted_subscriptions(bucket),
                self._keys.callback_calls(bucket),
                call_id,
                subscriber,
                *self._life,
                self._index_ttl_ms,
                SUBSCRIPTIONS_AT_MOST,
                *refusals,
                self._mark,
                url,
                b"1" if is_archived else b"",
                keys=7,
                is_durable=True,
            )
            if is_added:
                added.append(is_added.decode())
        if (refusal := _REFUSALS.get(outcome)) is not None:
            raise refusal[0](refusal[1])
        return bool(outcome == b"due")

    async def claim(self, bucket: int, limit: int) -> ClaimedTries:
        """TryClaim up to ``limit`` due subscriptions of a bucket, longest due first.

        After a claim whose reply was lost, the next claim returns the same subscriptions with a new lease.
        """
        token = self._unanswered.pop(bucket, None) or b"%x" % random.getrandbits(64)
        try:
            left, expired, *flat = await self._claim_script.run(
                self._redis,
                bucket,
                self._due_key(bucket),
                self._keys.claimed(bucket, self._process),
                self._keys.subscriptions[bucket],
                limit,
                self._lease_ms,
                self._index_ttl_ms,
                token,
                self._mark,
                keys=2,
            )
        except StoreUnavailableError:
            self._unanswered[bucket] = token
            raise
        claims = [TryClaim(*flat[place : place + 6]) for place in range(0, len(flat), 6)]
        return ClaimedTries(claims, left > 0, expired)

    async def note_pause(self, claim: TryClaim, number: int, task_run_id: bytes) -> bool:
        """Store which pause of its execution a try is about to end; False if another try holds the subscription."""
        event: tuple[Argument, ...] = (claim.subscriber, claim.number, number, task_run_id)
        key = self._subscriptions_key(claim.call_id)
        return bool(
            await self._note_pause_script.run(
                self._redis, bucket_of(claim.call_id), key, *event, keys=1, is_durable=True
            )
        )

    async def end_claim(self, claim: TryClaim, result: TryResult, *, retry_in_ms: int = 0) -> bool:
        """Record the result of a try; False if another try recorded one, or the subscription is gone."""
        bucket = bucket_of(claim.call_id)
        return bool(
            await self._end_claim_script.run(
                self._redis,
                bucket,
                self._subscriptions_key(claim.call_id),
                self._due_key(bucket),
                self._keys.callback_calls(bucket),
                claim.call_id,
                claim.subscriber,
                claim.number,
                result,
                retry_in_ms,
                self._mark,
                keys=3,
            )
        )

    def _subscriptions_key(self, call_id: bytes) -> bytes:
        return self._keys.subscriptions[bucket_of(call_id)] + call_id

    def _due_key(self, bucket: int) -> bytes:
        return self._keys.due_callbacks(bucket, self._origin_tag) if self._mark else self._keys.due(bucket)
