"""Every key in Redis: its name, its type, how long it lives, who writes it and who reads it.

Each name begins with ``<prefix>:{<bucket>}:``, or with ``<prefix>:{0}:`` where the table says ``{0}``. Names in small
letters are scripts in ``store/lua``, without their ending. A file of functions (hold_record, resume_waiting) stands for
the scripts that use it; ``store/lua/__init__.py`` lists them. To write is to add, change or remove entries, or to renew
the key's life. To trim is to remove only entries of calls whose record is gone.

| key | type | lives | written by | read by |
|---|---|---|---|---|
| ``call:<call id>`` | hash, see merge_call | as long as its record or tombstone; ten minutes where VAPI was only asked | merge_call, delete_call (a tombstone), ask_vapi (a lease); archive_entries, archive_done, archive_give_up (the field ``unarchived``); subscribe, hold_record (its life) | its writers, CallStore, count_subscriptions, unarchived_of_phone |
| ``expiry`` | zset, call id by expires_at in ms; without the held ones | past its last entry | merge_call, delete_call, hold_record; trimmed by scan_bucket | scan_bucket, merge_call, look_at_callbacks |
| ``updates`` | zset, call id by updated_at in ms | past its last entry | merge_call, delete_call, hold_record; trimmed by scan_bucket | scan_bucket, newest_of_phone, Forgetting |
| ``partial`` | zset, call id by the ms when the call was over | past its last entry | merge_call, delete_call; trimmed by scan_bucket | scan_bucket |
| ``deleted`` | zset, call id by the ms of its deletion | a minute | delete_call, ask_vapi (a call that VAPI does not know) | scan_bucket |
| ``phone:<number>`` | zset, call id by the ms until which its record lives | past its last entry | merge_call, delete_call, hold_record; trimmed by newest_of_phone | newest_of_phone, merge_call |
| ``updates:<number>`` | zset, call id by updated_at in ms | past its last entry | merge_call, delete_call, hold_record; newest_of_phone (adds what version 0.1.0 did not write, and drops what should not be there) | newest_of_phone, unarchived_of_phone |
| ``subs:<call id>`` | hash, see subscribe: subscriber (execution id, or ``callback:<origin>:<url>``, both as tags) to its state | as long as the call's record or tombstone, an hour where there is none | subscribe, claim_due, note_pause, end_claim; merge_call, delete_call, hold_record (its life) | its writers, resume_waiting, scan_bucket, count_subscriptions |
| ``due`` | zset, ``<call id> <execution id>`` by the ms of the next try | past its last entry | subscribe, resume_waiting, claim_due, end_claim | claim_due, scan_bucket |
| ``due_callbacks:<origin>`` | the same for the callbacks of one origin | past its last entry | subscribe, resume_waiting, claim_due, end_claim, look_at_callbacks | claim_due, look_at_callbacks |
| ``callback_calls`` | zset, id of a call with callbacks by the ms of its next look | past its last entry | subscribe, end_claim, look_at_callbacks | look_at_callbacks |
| ``claimed:<process>`` | string, token and entries of the last claim | one lease | claim_due | claim_due |
| ``subscribed`` | zset, id of a subscribed call by the ms of its next turn | past its last entry | subscribe, resume_waiting, scan_bucket | scan_bucket |
| ``refresh`` | zset, id of a complete call whose record lacks something, by the ms when VAPI may be asked once more | past its last entry | merge_call, scan_bucket, ReconcileLeases | scan_bucket |
| ``held`` | zset, id of a final record that is still needed, by the ms until which it lives | past its last entry | merge_call, delete_call, hold_record; trimmed by scan_bucket | scan_bucket, look_at_callbacks |
| ``archive`` | stream, see archive_entries; only with an archive | a week after the last look at it | merge_call, delete_call, archive_entries, archive_done, archive_give_up; archive_consumers (who reads it) | archive_entries, archive_give_up, archive_consumers |
| ``archive_later`` | zset, id of a running call by the ms when it is put on the stream | past its last entry | merge_call, archive_entries | archive_entries |
| ``forgotten`` | hash, digest of a phone number by the ms when it was forgotten | 30 days after the last one | forget_number | merge_call, forget_number |
| ``{0}`` ``archive_failures`` | stream of 100 entries, calls that PostgreSQL refuses | a week after the last one | ArchiveStream | ArchiveStream, for the stats |
| ``subscriptions``, ``subscriptions_unknown`` | zset, ``<call id> <subscriber>`` by the ms of the next check | past its last entry | subscribe, count_subscriptions | count_subscriptions |
| ``rate:<client>:<minute>`` | string | two minutes | rate_limit | rate_limit |
| ``idempotency:<sha256>`` | hash, see idempotency_claim | 24 h from its claim | idempotency_claim, idempotency_answer, idempotency_free | its writers |
| ``batch:<batch id>`` | hash, see batch_begin | 24 h from its beginning | batch_begin, batch_dial, batch_write, batch_read (what a dead replica left), batch_free | its writers |
| ``probe`` | string | PROBE_TTL_MS | StoreHealth, IdempotencyStore | nobody |
| ``probe:<random>`` | string | 5 s | the doctor, which tries its rights | nobody |
| ``{0}`` ``counts:<replica>:<process>`` | hash, counter to value | COUNTS_TTL_MS after its last write | CountStore, each second | CountStore, for the stats |
| ``{0}`` ``processes`` | zset, ``<replica>:<process>`` by last seen in ms | the same | CountStore, each second | CountStore, for the stats |
| ``{0}`` ``next_turn`` | string, us when VAPI may be asked next | until then | reserve_turn | reserve_turn |

The braces are a Cluster hash tag: a call and its index entries share one slot, so one script can change both
atomically. Changes are published on the channel ``<prefix>:changes``.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

BUCKETS: Final = 32
"""Index shards. Enough to spread over a Cluster's masters, few enough to ask all of them in one round trip."""

COUNTS_BUCKET: Final = 0
"""Holds the counts of all processes: in one bucket, so that two round trips read them."""

COUNTS_TTL_MS: Final = 2 * 3600 * 1000
"""Counts cover the last 30 minutes at least; the counts of an ended process are kept for two hours."""

TURNS_BUCKET: Final = 0
"""Holds the rate at which all replicas together ask VAPI."""

PROBE_TTL_MS: Final = 10_000

HELD_FOR_MS: Final = 24 * 3_600_000
"""As in record_life.lua: the longest time for which a record is held because the archive or a callback needs it."""


class OptionalKeys(NamedTuple):
    """Keys of one bucket in the order of the scripts' ARGV; each is empty where its part is off."""

    held: bytes
    archive: bytes
    forgotten: bytes
    due_callbacks: bytes


class Keys:
    """Makes key names from ``REDIS_KEY_PREFIX``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._buckets = tuple(b"%b:{%d}:" % (self._prefix, bucket) for bucket in range(BUCKETS))
        self.indices = tuple(
            (tag + b"expiry", tag + b"updates", tag + b"partial", tag + b"deleted", tag + b"due", tag + b"subscribed")
            for tag in self._buckets
        )
        """Per bucket, in the order of the scripts' KEYS."""
        self.calls = tuple(tag + b"call:" for tag in self._buckets)
        """Per bucket, the prefix of a call id."""
        self.phones = tuple(tag + b"phone:" for tag in self._buckets)
        """Per bucket, the prefix of a phone number."""
        self.phone_updates = tuple(tag + b"updates:" for tag in self._buckets)
        """Per bucket, the prefix of a phone number."""
        self.subscriptions = tuple(tag + b"subs:" for tag in self._buckets)
        """Per bucket, the prefix of a call id."""
        self.refreshes = tuple(tag + b"refresh" for tag in self._buckets)
        self.held = tuple(tag + b"held" for tag in self._buckets)
        self.archives = tuple(tag + b"archive" for tag in self._buckets)
        self.forgotten = tuple(tag + b"forgotten" for tag in self._buckets)
        self.archive_failures = self._buckets[COUNTS_BUCKET] + b"archive_failures"
        self.changes = self._prefix + b":changes"
        self.probes = tuple(tag + b"probe" for tag in self._buckets)
        self.processes = self._buckets[COUNTS_BUCKET] + b"processes"
        self.next_turn = self._buckets[TURNS_BUCKET] + b"next_turn"

    def optional(self, bucket: int, *, has_archive: bool, has_callbacks: bool) -> OptionalKeys:
        return OptionalKeys(
            held=self.held[bucket] if has_archive or has_callbacks else b"",
            archive=self.archives[bucket] if has_archive else b"",
            forgotten=self.forgotten[bucket] if has_archive else b"",
            due_callbacks=self.due_callbacks(bucket) if has_callbacks else b"",
        )

    def call(self, call_id: bytes) -> bytes:
        return self.calls[bucket_of(call_id)] + call_id

    def expiry(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"expiry"

    def deleted(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"deleted"

    def updates(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"updates"

    def due(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"due"

    def due_callbacks(self, bucket: int, origin_tag: bytes = b"") -> bytes:
        """Of the callbacks of one origin; without a tag, the prefix of all of them."""
        return self._buckets[bucket] + b"due_callbacks:" + origin_tag

    def callback_calls(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"callback_calls"

    def claimed(self, bucket: int, process: bytes) -> bytes:
        """The last claim of this process in this bucket."""
        return b"%bclaimed:%b" % (self._buckets[bucket], process)

    def subscribed(self, bucket: int) -> bytes:
        return self._buckets[bucket] + b"subscribed"

    def counted_subscriptions(self, bucket: int) -> tuple[bytes, bytes]:
        """The key for known calls, and the one for unknown calls."""
        return self._buckets[bucket] + b"subscriptions", self._buckets[bucket] + b"subscriptions_unknown"

    def rate(self, bucket: int, client: bytes, window: int) -> bytes:
        return b"%brate:%b:%d" % (self._buckets[bucket], client, window)

    def idempotency(self, bucket: int, digest: bytes) -> bytes:
        return b"%bidempotency:%b" % (self._buckets[bucket], digest)

    def batch(self, bucket: int, batch_id: bytes) -> bytes:
        return b"%bbatch:%b" % (self._buckets[bucket], batch_id)

    def counts(self, process: bytes) -> bytes:
        return b"%bcounts:%b" % (self._buckets[COUNTS_BUCKET], process)


def bucket_of(call_id: bytes) -> int:
    return zlib.crc32(call_id) % BUCKETS
