"""Leases to ask VAPI about a call: one replica at a time, with growing pauses, at a rate that all replicas share."""

from __future__ import annotations

import random
from typing import Final, Literal, cast

import msgspec

from service.config import Settings
from service.redis_client.command import Argument, Commands
from service.store.calls import DELETIONS_KEPT_MS
from service.store.keys import TURNS_BUCKET, Keys, bucket_of
from service.store.lua import load_script

Kind = Literal["unknown", "pending", "partial", ""]
"""The state of a call's record, for calls that VAPI may be asked for; empty for a final or deleted one."""

PARTIAL_FOR_MS: Final = 5_000
"""Reports arrive 1 to 5 s after the end of their call; one that takes longer may never come."""

SILENT_FOR_MS: Final = 30_000
"""A pending call without any message for this long may be over. From then on VAPI is asked at this interval."""

BACKOFF_STEP_MS: Final = 5_000
"""Longer than ASK_WITHIN_S, so that no second request is granted while the first may run."""

LONGEST_BACKOFF_MS: Final = 20_000

ASK_WITHIN_S: Final = 4.8
"""Longest time from just before the claim to VAPI's answer; shorter than the lease."""

RELEASED_FOR_MS: Final = 1_000

TURN_WITHIN_S: Final = 1.0
"""Longest wait for a turn; the rest of ASK_WITHIN_S is for VAPI."""

MISSING_APART_MS: Final = 10_000
"""A call counts as unknown after two 404s this far apart: just after its creation VAPI may answer 404."""

UNKNOWN_LIFE_MS: Final = 600_000
"""How long Redis remembers that VAPI was asked for a call without a record."""

LONGEST_BETWEEN_TURNS_US: Final = 86_400_000_000


class ReconcileLease(msgspec.Struct, frozen=True):
    """The answer to a claim. ``release`` needs its ``token``."""

    is_granted: bool
    kind: Kind
    next_in_s: float | None
    """Seconds until the call may be claimed again; None: never, it is final or deleted."""
    token: bytes


class ReconcileLeases:
    """The leases and the rate, in Redis. Every method raises StoreUnavailableError like those of CallStore."""

    def __init__(self, settings: Settings, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._bounds: tuple[Argument, ...] = (
            settings.pending_ttl_ms,
            PARTIAL_FOR_MS,
            SILENT_FOR_MS,
            BACKOFF_STEP_MS,
            LONGEST_BACKOFF_MS,
            RELEASED_FOR_MS,
            MISSING_APART_MS,
            UNKNOWN_LIFE_MS,
            DELETIONS_KEPT_MS,
        )
        self._has_callbacks = settings.has_callbacks
        self._between_turns_us = round(min(1_000_000 / settings.reconcile_per_second, LONGEST_BETWEEN_TURNS_US))
        self._ask_script = load_script("ask_vapi.lua")
        self._turn_script = load_script("reserve_turn.lua")

    async def claim(self, call_id: bytes) -> ReconcileLease:
        """Claim the right to ask VAPI about a call: granted to one at a time, and only when the record needs it."""
        token = b"%x" % random.getrandbits(64)
        granted, next_in_ms, kind = await self._run(b"claim", call_id, token)
        next_in_s = next_in_ms / 1000 if next_in_ms >= 0 else None
        return ReconcileLease(bool(granted), cast("Kind", kind.decode()), next_in_s, token)

    async def release(self, call_id: bytes, claim: ReconcileLease) -> None:
        """Give a claim back unused; the call may be claimed again after a second."""
        await self._run(b"release", call_id, claim.token)

    async def note_missing(self, call_id: bytes, claim: ReconcileLease) -> bool:
        """Note a 404. True if VAPI answered 404 before, at least MISSING_APART_MS ago: the call then counts as gone."""
        is_gone, _, _ = await self._run(b"missing", call_id, claim.token)
        return bool(is_gone)

    async def take_refresh(self, call_id: bytes) -> bool:
        """Remove a complete call from the refresh index. True for one caller at most, which may then ask VAPI.

        If that caller dies, or the reply gets lost, the call gets no late refresh. It never gets two.
        """
        bucket = bucket_of(call_id)
        taken: int = await self._redis.execute(b"ZREM", self._keys.refreshes[bucket], call_id, bucket=bucket)
        return taken == 1

    async def reserve_turn(self, within_s: float = TURN_WITHIN_S) -> float | None:
        """Seconds until our turn to ask, at the rate of all replicas; None if it is further away than ``within_s``."""
        wait_us: int = await self._turn_script.run(
            self._redis,
            TURNS_BUCKET,
            self._keys.next_turn,
            self._between_turns_us,
            round(within_s * 1_000_000),
            keys=1,
        )
        return wait_us / 1_000_000 if wait_us >= 0 else None

    async def _run(self, action: bytes, call_id: bytes, token: bytes) -> tuple[int, int, bytes]:
        bucket = bucket_of(call_id)
        granted, next_in_ms, kind = await self._ask_script.run(
            self._redis,
            bucket,
            self._keys.call(call_id),
            self._keys.deleted(bucket),
            self._keys.due(bucket),
            self._keys.subscribed(bucket),
            self._keys.subscriptions[bucket] + call_id,
            action,
            call_id,
            self._keys.changes,
            token,
            *self._bounds,
            self._keys.due_callbacks(bucket) if self._has_callbacks else b"",
            keys=5,
        )
        return granted, next_in_ms, kind
