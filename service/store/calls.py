"""The call records in Redis: merge, read, delete, and scan for those that have changed or are due."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import msgspec

from service.calls.stamped_call import StampedCall
from service.calls.stored_call import TOMBSTONE, UNKNOWN_TO_VAPI, CallChange, Merged, StoredCall, Tombstone, new_token
from service.config import Settings
from service.redis_client.command import Argument, Commands
from service.store.call_codec import (
    LARGE_FIELDS,
    STAMPED_FIELDS,
    change_arguments,
    decode_stamped_call,
    decode_stored_call,
    no_change_arguments,
    number_digests,
)
from service.store.index_scan import BucketScan, IndexScan, IndexScanner
from service.store.keys import BUCKETS, Keys, bucket_of
from service.store.lua import load_script

REFRESH_AFTER_MS: Final = 60_000
"""How long after a call's completion VAPI is asked once more for what its record lacks."""

DELETIONS_KEPT_MS: Final = 60_000
"""Every process looks for lost notifications many times within this time."""

EXECUTIONS: Final = (b"",)
"""The queue of due executions: its name in the scripts' replies is empty. Those of callbacks are named by origin."""

_UNCHANGED: Final = Merged(is_deleted=False, is_changed=False, became_final=None, became_complete=False)
_CHANGED: Final = msgspec.structs.replace(_UNCHANGED, is_changed=True)
_DELETED: Final = msgspec.structs.replace(_UNCHANGED, is_deleted=True)
_DIGESTS_WANTED: Final = msgspec.structs.replace(_UNCHANGED)
"""Told apart from _UNCHANGED by identity; it never leaves this file."""

_RESULTS: Final = {-2: _DIGESTS_WANTED, -1: _DELETED, 0: _UNCHANGED, 1: _CHANGED}
"""By the result of merge_call.lua."""


class CallStore:
    """Everything done to call records in Redis.

    Every method raises StoreUnavailableError when Redis does not answer within ``STORE_TIMEOUT_S``, or by ``deadline``
    (``time.monotonic``). Pass a deadline for a request that has waited for Redis before.

    Args:
        on_due: called with a bucket and a queue (see subscriptions.py) when a reply shows that something in it is due.
    """

    def __init__(
        self, settings: Settings, redis: Commands, keys: Keys, *, on_due: Callable[[int, bytes], None] | None = None
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._on_due = on_due
        self._result_ttl_ms = settings.result_ttl_ms
        self._index_ttl_ms = max(settings.result_ttl_ms, settings.pending_ttl_ms)
        self._life: tuple[Argument, ...] = (
            settings.result_ttl_ms,
            settings.pending_ttl_ms,
            settings.report_grace_ms,
            b"1" if settings.expect_analysis else b"0",
            REFRESH_AFTER_MS if settings.vapi_api_key is not None else 0,
        )
        self._asks_vapi = settings.vapi_api_key is not None
        self._merge_script = load_script("merge_call.lua")
        self._delete_script = load_script("delete_call.lua")
        self._has_archive, has_callbacks = settings.database_url is not None, settings.has_callbacks
        self._optional = [
            keys.optional(bucket, has_archive=self._has_archive, has_callbacks=has_callbacks)
            for bucket in range(BUCKETS)
        ]
        """By bucket."""
        self._forgetful: set[int] = set()
        """Buckets in which numbers are forgotten."""
        self._scanner = IndexScanner(settings, redis, keys)

    def merge(self, change: CallChange, *, deadline: float | None = None) -> Coroutine[Any, Any, Merged]:
        """Apply a change to its call's record, or create the record, and renew its life."""
        if self._has_archive:
            return self._merge_archived(change, deadline)
        return self._run_merge(change.call_id, change_arguments(change, change.token or new_token()), deadline)

    async def _merge_archived(self, change: CallChange, deadline: float | None) -> Merged:
        """As ``merge``, where forgotten numbers are refused. While there are none, their digests are not made."""
        bucket = bucket_of(change.call_id)
        token = change.token or new_token()
        while True:
            digests = number_digests(change) if bucket in self._forgetful else b""
            arguments = change_arguments(change, token, digests=digests, raw=change.raw)
            merged = await self._run_merge(change.call_id, arguments, deadline)
            if merged is not _DIGESTS_WANTED:
                return merged
            self._forgetful.add(bucket)

    def expire_grace(self, call_id: bytes, *, deadline: float | None = None) -> Coroutine[Any, Any, Merged]:
        """Mark a partial record as fetch_failed if its report grace is over."""
        return self._run_merge(call_id, no_change_arguments(new_token()), deadline)

    async def _run_merge(self, call_id: bytes, arguments: tuple[Argument, ...], deadline: float | None) -> Merged:
        bucket = bucket_of(call_id)
        result, queues, first_final, first_complete, state, facts, later = await self._merge_script.run(
            self._redis,
            bucket,
            *self._keys_of(call_id, bucket),
            call_id,
            self._keys.changes,
            self._keys.phones[bucket],
            self._keys.refreshes[bucket],
            *self._optional[bucket],
            *self._life,
            *arguments,
            keys=8,
            is_durable=True,
            deadline=deadline,
        )
        self._report_due(bucket, queues)
        if not (first_final or first_complete):
            return _RESULTS[result]
        return Merged(
            is_deleted=False,
            is_changed=True,  # also on a retry: the first attempt changed it, and its reply was lost
            became_final=decode_stored_call(call_id, state, facts, later) if first_final else None,
            became_complete=bool(first_complete),
        )

    async def find(
        self, call_id: bytes, large: tuple[str, ...] = (), *, deadline: float | None = None
    ) -> StoredCall | Tombstone | None:
        """The record with the named large facts, a tombstone if it was deleted, None if unknown.

        With VAPI_API_KEY set, UnknownToVapi if VAPI does not know the call either.
        """
        bucket = bucket_of(call_id)
        state, first, later, deleted, gone, *texts = await self._redis.execute(
            b"HMGET",
            self._keys.calls[bucket] + call_id,
            b"state",
            b"facts",
            b"facts2",
            b"deleted",
            b"gone",
            *map(LARGE_FIELDS.__getitem__, large),
            bucket=bucket,
            coalesce_key=(call_id, large),
            deadline=deadline,
        )
        if state is None:
            return TOMBSTONE if deleted is not None else UNKNOWN_TO_VAPI if gone and self._asks_vapi else None
        return decode_stored_call(call_id, state, first, later, large, texts)

    async def find_stamped(self, call_id: bytes, *, deadline: float | None = None) -> StampedCall | None:
        """The record with all its facts and their stamps; None if it is unknown or deleted."""
        bucket = bucket_of(call_id)
        values = await self._redis.execute(
            b"HMGET", self._keys.calls[bucket] + call_id, *STAMPED_FIELDS, bucket=bucket, deadline=deadline
        )
        if values[0] is None:
            return None
        return decode_stamped_call(call_id, dict(zip(STAMPED_FIELDS, values, strict=True)))

    async def delete(self, call_id: bytes) -> bool:
        """Remove the record and leave a tombstone in its place; False when there was no record."""
        bucket = bucket_of(call_id)
        existed, queues = await self._delete_script.run(
            self._redis,
            bucket,
            *self._keys_of(call_id, bucket),
            call_id,
            self._keys.changes,
            self._keys.phones[bucket],
            self._result_ttl_ms,
            DELETIONS_KEPT_MS,
            new_token(),
            self._index_ttl_ms,
            self._keys.held[bucket],
            self._optional[bucket].archive,
            self._optional[bucket].due_callbacks,
            keys=8,
            is_durable=True,
        )
        self._report_due(bucket, queues)
        return bool(existed)

    async def scan(
        self,
        *,
        changed_since_ms: tuple[int, ...] = (),
        newest: int = 0,
        takes_turns: bool = False,
        deadline: float | None = None,
    ) -> IndexScan:
        """Scan all buckets for live, changed and newest records and for those past their grace.

        ``missing`` names the buckets that do not answer; StoreUnavailableError only when none answers.

        Args:
            changed_since_ms: the ``now_ms`` of an earlier scan; when empty, no changes are looked for.
            newest: how many of the newest records are wanted.
            takes_turns: take up the subscribed calls whose turn it is; no other scan gets the same calls within 5 s.
            deadline: as for every method; buckets that have not answered by then are missing.
        """
        scan = await self._scanner.scan_all(changed_since_ms, newest, takes_turns=takes_turns, deadline=deadline)
        for bucket, count in enumerate(scan.resumable):
            self._report_due(bucket, EXECUTIONS if count else ())
        return scan

    async def scan_bucket(
        self,
        bucket: int,
        changed_since_ms: int | None = None,
        *,
        takes_turns: bool = False,
        takes_refreshes: bool = False,
    ) -> BucketScan:
        """Scan one bucket. ``takes_refreshes``: take up calls that VAPI may be asked for once more.

        No other scan gets the same refreshes within 30 s.
        """
        scan = await self._scanner.scan(
            bucket, changed_since_ms, takes_turns=takes_turns, takes_refreshes=takes_refreshes
        )
        self._report_due(bucket, EXECUTIONS if scan.resumable else ())
        return scan

    def _keys_of(self, call_id: bytes, bucket: int) -> tuple[bytes, ...]:
        """The KEYS of the scripts that change a record."""
        keys = self._keys
        return (keys.calls[bucket] + call_id, *keys.indices[bucket], keys.subscriptions[bucket] + call_id)

    def _report_due(self, bucket: int, queues: Iterable[bytes]) -> None:
        for queue in queues:
            if self._on_due is not None:
                self._on_due(bucket, queue)
