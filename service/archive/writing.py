"""Writes calls into their rows: merges records, deletes rows, and leaves out what cannot be a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from service.archive.connection import row_fault
from service.archive.rows import (
    COLUMNS,
    TABLE,
    UNREADABLE,
    decode_row,
    encode_row,
    request_id_of,
    selected,
    with_storable_numbers,
    without_request_id,
)
from service.calls.merging import merge_calls, without_facts_before, without_results
from service.calls.phone import phone_digests
from service.calls.stamped_call import StampedCall

LOCK: Final = 0x7661_7069
"""The class of our advisory locks: "vapi". A lock's second number is below LOCKS."""

LOCKS: Final = 32
"""Replicas that write calls of one lock wait for each other. Otherwise each would merge into the old row, and one result
would be lost.
"""

PART_BYTES: Final = 4 * 1024 * 1024

TAKE_LOCKS: Final = "SELECT pg_advisory_xact_lock($1, slot) FROM unnest($2::int[]) AS slot"

FIND_ROWS: Final = f"""
SELECT call_id, row_to_json(found)::text FROM (SELECT {selected()} FROM {TABLE} WHERE call_id = ANY($1)) AS found
"""

NOTE_DELETIONS: Final = """
INSERT INTO vapi_call_deletions AS noted (call_id, deleted_at)
SELECT call_id, to_timestamp(ms / 1000.0) FROM unnest($1::text[], $2::bigint[]) AS deleted (call_id, ms)
ON CONFLICT (call_id) DO UPDATE SET deleted_at = GREATEST(noted.deleted_at, excluded.deleted_at)
"""

FIND_ERASURES: Final = """
SELECT call_id AS erased, round(extract(epoch FROM deleted_at) * 1000)::bigint AS ms
FROM vapi_call_deletions WHERE call_id = ANY($1)
UNION ALL
SELECT phone_sha256, round(extract(epoch FROM forgotten_at) * 1000)::bigint
FROM vapi_forgotten_phones WHERE phone_sha256 = ANY($2)
"""

MAY_READ_REQUESTS: Final = "SELECT COALESCE(has_table_privilege(to_regclass('service_requests'), 'SELECT'), FALSE)"
FIND_REQUESTS: Final = "SELECT id::text FROM service_requests WHERE id = ANY($1::text[]::uuid[])"

BEFORE_ROWS: Final = "SET LOCAL vapi_cache.writes = 'on'; SAVEPOINT before_rows"
"""The trigger of the table then leaves ``updated_at`` as we write it."""

UPSERT: Final = f"""
INSERT INTO {TABLE} ({", ".join(COLUMNS)})
SELECT {", ".join(COLUMNS)}
FROM json_to_recordset($1::json) AS given ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
ON CONFLICT (call_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "call_id")}
WHERE {TABLE}.* IS DISTINCT FROM excluded.*
"""

Rows = dict[bytes, str]
"""Rows as JSON, by call id."""


class WriteResult(msgspec.Struct, frozen=True):
    """What became of the calls that were to be written."""

    failed: dict[bytes, str] = {}
    """The calls that PostgreSQL will never take, each with the reason. All others are rows now."""


async def write_rows(
    connection: Any, changes: Sequence[StampedCall], deletions: Mapping[bytes, int], retention_ms: int
) -> WriteResult:
    """As ``Archive.write``, inside a transaction."""
    changed: dict[bytes, StampedCall] = {}
    for change in changes:
        known = changed.get(change.call.call_id)
        changed[change.call.call_id] = merge_calls(known, change) if known else change
    ids = sorted(call_id.decode() for call_id in changed.keys() | deletions.keys())
    await connection.execute(TAKE_LOCKS, LOCK, sorted({lock_of(call_id.encode()) for call_id in ids}))
    if deletions:
        await connection.execute(NOTE_DELETIONS, [each.decode() for each in deletions], [*deletions.values()])
    erasures = await _find_erasures(connection, ids, changed)
    stored = {call_id.encode(): row for call_id, row in await connection.fetch(FIND_ROWS, ids)}
    linkable = await _find_linkable(connection, changed.values())
    rows: Rows = {}
    failed: dict[bytes, str] = {}
    emptied: list[str] = []
    for call_id in map(str.encode, ids):
        try:
            old = decode_row(stored[call_id], retention_ms) if call_id in stored else None
            merged = _merged(old, changed.get(call_id), erasures)
            if merged is not None:
                rows[call_id] = _row_of(merged, linkable).decode()
            elif old is not None:
                emptied.append(call_id.decode())
        except UNREADABLE as exc:
            failed[call_id] = type(exc).__name__
    if emptied:
        await connection.execute(f"DELETE FROM {TABLE} WHERE call_id = ANY($1)", emptied)
    return WriteResult(failed | await _insert(connection, rows))


def split_by_size(changes: Sequence[StampedCall]) -> list[Sequence[StampedCall]]:
    """The changes in parts of at most PART_BYTES, or of one that is larger. A part is held in memory several times."""
    parts: list[Sequence[StampedCall]] = []
    start, size = 0, 0
    for place, change in enumerate(changes):
        if place > start and size + change.size_bytes > PART_BYTES:
            parts.append(changes[start:place])
            start, size = place, 0
        size += change.size_bytes
    return [*parts, changes[start:]] if changes else []


def lock_of(call_id: bytes) -> int:
    return zlib.crc32(call_id) % LOCKS


async def _find_erasures(connection: Any, ids: list[str], changed: Mapping[bytes, StampedCall]) -> dict[str, int]:
    """When these calls were deleted and their numbers forgotten, ms, by call id and by the digest of the number."""
    digests = {digest for change in changed.values() for digest in phone_digests(change.call.facts)}
    return dict(await connection.fetch(FIND_ERASURES, ids, sorted(digests)))


async def _find_linkable(connection: Any, changes: Iterable[StampedCall]) -> set[str] | None:
    """The requests of these calls that are in ``service_requests``; None where we may not read that table."""
    asked = sorted({request_id for change in changes if (request_id := request_id_of(change))})
    if not asked or not await connection.fetchval(MAY_READ_REQUESTS):
        return None
    return {request_id for (request_id,) in await connection.fetch(FIND_REQUESTS, asked)}


def _merged(old: StampedCall | None, change: StampedCall | None, erasures: Mapping[str, int]) -> StampedCall | None:
    """The row and the change as one, without what was erased; None when nothing is left."""
    left = [after for each in (old, change) if each and (after := _without_erased(each, erasures))]
    if not left:
        return None
    merged = merge_calls(*left) if len(left) == 2 else left[0]
    return without_results(merged) if merged.deleted_at_vapi else merged


def _without_erased(stamped: StampedCall, erasures: Mapping[str, int]) -> StampedCall | None:
    names = (stamped.call.call_id.decode(), *phone_digests(stamped.call.facts)) if erasures else ()
    moments = [erasures[name] for name in names if name in erasures]
    return without_facts_before(stamped, max(moments)) if moments else stamped


def _row_of(stamped: StampedCall, linkable: set[str] | None) -> bytes:
    row = encode_row(stamped)
    request_id = request_id_of(stamped)
    is_dangling = linkable is not None and request_id is not None and request_id not in linkable
    return without_request_id(row) if is_dangling else row


async def _insert(connection: Any, rows: Rows) -> dict[bytes, str]:
    """Insert or replace the rows. Returns those that PostgreSQL does not take, which are found by halving."""
    if not rows:
        return {}
    reason = await _try_to_insert(connection, rows)
    if reason is None:
        return {}
    if len(rows) == 1:
        (call_id, row), *_ = rows.items()
        # What PostgreSQL may have refused becomes text or is left out. That takes longer than all the rest.
        storable = without_request_id(with_storable_numbers(row.encode()))
        reason = await _try_to_insert(connection, {call_id: storable.decode()})
        return {} if reason is None else {call_id: reason}
    entries = [*rows.items()]
    middle = len(entries) // 2
    return await _insert(connection, dict(entries[:middle])) | await _insert(connection, dict(entries[middle:]))


async def _try_to_insert(connection: Any, rows: Rows) -> str | None:
    """Why PostgreSQL does not take one of the rows; None when they are written."""
    await connection.execute(BEFORE_ROWS)
    try:
        await connection.execute(UPSERT, f"[{','.join(rows.values())}]")
    except Exception as exc:
        reason = row_fault(exc)
        if reason is None:
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT before_rows")
        return reason
    return None
