"""``GET /api/v1/vapi/cache/stats``: what is stored now, and what all replicas have counted.

While a shard of a Cluster is away, ``missing_buckets`` names those of the 32 buckets that are not counted or listed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Counts
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.api.calls import read_int
from service.api.reading import SCAN_SHARE, deadlines_of, read_call
from service.api.responses import JSONResponse
from service.api.state import State
from service.calls.phone import mask_phone
from service.calls.record import duration_minutes_of, iso_of, meaning_of_call
from service.calls.status import DataStatus, status_at
from service.calls.stored_call import StoredCall
from service.errors import StoreUnavailableError
from service.jobs.archiver import Archiver
from service.metrics.declared import CALLBACK_RESULTS, LATENCIES_S, PLACED, RECONCILED, SUBSCRIPTION_RESULTS, WAKE_SUMS
from service.metrics.process import MAX_REASON_LENGTH
from service.store.archive_stream import ArchiveStream
from service.store.callback_calls import CallbackStanding
from service.store.counts import Replica
from service.store.index_scan import IndexScan

ROUTE: Final = "/api/v1/vapi/cache/stats"

DEFAULT_ENTRIES: Final = 20
MAX_ENTRIES: Final = 100

ARCHIVE_COUNTS: Final = ("written", "set_aside", "given_up")

WEBHOOK_COUNTS: Final = ("received", "stored", "ignored", "invalid", "unauthorized", "spooled", "failed")


async def get_stats(state: State, request: Request) -> Response:
    limit = read_int(request, "limit", default=DEFAULT_ENTRIES, least=0, most=MAX_ENTRIES)
    return JSONResponse(stats=await collect_stats(state, limit))


async def collect_stats(state: State, limit: int) -> dict[str, Any]:
    """The stats, with at most ``limit`` entries. Raises StoreUnavailableError."""
    (scan, entries), counted, probe = await asyncio.gather(
        _scan(state, limit), _find_counts(state), state.store_health.probe(SCAN_SHARE * state.settings.store_timeout_s)
    )
    stats: dict[str, Any] = {
        "size": scan.size,
        "entries": entries,
        **_counts(state, scan, counted),
        "store": {"writable": probe.is_writable, "latency_ms": probe.latency_ms, "spool": _spool(state)},
    }
    if state.archiver is not None and state.archive_stream is not None:
        stats["archive"] = await _archive(state.archiver, state.archive_stream, counted)
    if scan.missing:
        stats["missing_buckets"] = scan.missing
    return stats


async def _scan(state: State, limit: int) -> tuple[IndexScan, list[dict[str, Any]]]:
    """The scan of all buckets and the entries of the newest calls, both within ``STORE_TIMEOUT_S``."""
    look_until, deadline = deadlines_of(state)
    scan = await state.calls.scan(newest=limit, deadline=look_until)
    return scan, await _entries(state, scan, deadline)


async def _find_counts(state: State) -> tuple[Counts[str], list[Replica]] | None:
    """The counts and the replicas; None while the Redis bucket that holds them is away."""
    try:
        return await state.counts.read(deadline=time.monotonic() + state.settings.store_timeout_s)
    except StoreUnavailableError:
        return None


async def _entries(state: State, scan: IndexScan, deadline: float) -> list[dict[str, Any]]:
    """The newest calls. Calls that cannot be read are left out: a shard may go away after the scan."""
    found = await asyncio.gather(
        *(read_call(state, call_id, "summary", deadline=deadline) for _, call_id in scan.newest),
        return_exceptions=True,
    )
    for outcome in found:
        if isinstance(outcome, BaseException) and not isinstance(outcome, StoreUnavailableError):
            raise outcome
    live = [call for call in found if isinstance(call, StoredCall)]
    live.sort(key=lambda call: (-call.updated_at_ms, call.call_id))  # reading changes a call whose grace has ended
    return [_entry(call) for call in live]


def _counts(state: State, scan: IndexScan, counted: tuple[Counts[str], list[Replica]] | None) -> dict[str, Any]:
    """What all replicas have counted; every part is None while the counts are away."""
    if counted is None:
        return dict.fromkeys(("webhooks", "calls", "polls", "placed", "replicas"))
    sums, replicas = counted
    counts: dict[str, Any] = {
        "webhooks": _webhooks(sums),
        "calls": _calls(sums),
        "polls": _polls(sums, replicas),
        "placed": {result: sums[f"placed.{result}"] for result in PLACED},
        "replicas": [_replica(replica) for replica in replicas],
    }
    if state.resumer is not None:
        counts["subscriptions"] = _subscriptions(scan, sums)
    if state.callbacks is not None:
        counts["callbacks"] = _callbacks(state.callbacks.standing, sums)
    if state.reconciler is not None:
        counts["reconciled"] = {result: sums[f"reconciled.{result}"] for result in RECONCILED}
    return counts


async def _archive(
    archiver: Archiver, stream: ArchiveStream, counted: tuple[Counts[str], list[Replica]] | None
) -> dict[str, Any]:
    """What waits for the archive now, what all replicas have counted, and the newest calls that it refused."""
    sums = counted[0] if counted is not None else None
    counts = {name: sums[f"archive.{name}"] if sums is not None else None for name in ARCHIVE_COUNTS}
    return {
        "problem": archiver.problem,
        "backlog": archiver.backlog.changes,
        "backlog_age_s": round(archiver.backlog.age_s, 1),
        **counts,
        "refused": [
            {"callId": refused.call_id, "reason": refused.reason, "timestamp": refused.at_ms}
            for refused in await stream.find_set_aside()
        ],
    }


def _spool(state: State) -> dict[str, int] | None:
    """The spool of the replica that answers; None without one."""
    return None if state.spool is None else msgspec.structs.asdict(state.spool.held)


def _entry(call: StoredCall) -> dict[str, Any]:
    """``timestamp`` and all times but two are by Redis's clock; ``startedAt`` and ``endedAt`` are VAPI's."""
    facts, meaning = call.facts, meaning_of_call(call)
    phone, reason = _text_of(facts.customer_phone), _text_of(facts.ended_reason)
    return {
        "callId": call.call_id.decode(),
        "status": status_at(call.status),
        "dataStatus": DataStatus(call.data_status).name.lower(),
        "timestamp": call.updated_at_ms,
        "expiresAt": call.expires_at_ms,
        "createdAt": call.created_at_ms,
        "overAt": call.over_at_ms or None,
        "startedAt": _epoch_ms_of(facts.started_at),
        "endedAt": _epoch_ms_of(facts.ended_at),
        "durationMinutes": duration_minutes_of(call),
        "outcome": meaning.outcome if meaning else None,
        "retry": meaning.retry if meaning else None,
        "endedReason": reason[:MAX_REASON_LENGTH] if meaning and reason else None,
        "phone": mask_phone(phone) if phone else None,
    }


def _text_of(fragment: bytes) -> str | None:
    return msgspec.json.decode(fragment, type=str) if fragment else None


def _epoch_ms_of(fragment: bytes) -> int | None:
    """An ISO time, as it is stored, in epoch milliseconds; None where it is empty."""
    return round(msgspec.json.decode(fragment, type=datetime).timestamp() * 1000) if fragment else None


def _webhooks(sums: Counts[str]) -> dict[str, Any]:
    acknowledged, refused = sums["webhooks.acknowledged"], sums["webhooks.refused"]
    return {name: sums[f"webhooks.{name}"] for name in WEBHOOK_COUNTS} | {
        "delivery_success_rate": _rate(acknowledged, acknowledged + refused)
    }


def _calls(sums: Counts[str]) -> dict[str, Any]:
    ended, with_duration = sums["calls.ended"], sums["calls.with_duration"]
    return {
        "ended": ended,
        "completed": sums["calls.completed"],
        "completion_rate": _rate(sums["calls.completed"], ended),
        "average_duration_minutes": _rate(sums["calls.duration_hundredths"] / 100, with_duration),
        "outcomes": _by_name(sums, "outcome."),
        "retries": _by_name(sums, "retry."),
        "ended_reasons": _by_name(sums, "reason."),
    }


def _polls(sums: Counts[str], replicas: list[Replica]) -> dict[str, Any]:
    hits, misses = sums["polls.hits"], sums["polls.misses"]
    return {
        "hits": hits,
        "misses": misses,
        "waits": sums["polls.waits"],
        "hit_rate": _rate(hits, hits + misses),
        "parked": sum(replica.parked_polls for replica in replicas),
        "wake_latency": {
            "at_most_ms": [*(bound * 1000 for bound in LATENCIES_S), None],
            "counts": [sums[name] for name in WAKE_SUMS],
        },
    }


def _subscriptions(scan: IndexScan, sums: Counts[str]) -> dict[str, int]:
    """How many calls have waiting executions, how many executions are due, and the results of past tries to resume."""
    counts = {result: sums[f"subscriptions.{result}"] for result in SUBSCRIPTION_RESULTS}
    return {"waiting_calls": scan.subscribed_calls, "due": sum(scan.resumable), **counts}


def _callbacks(standing: CallbackStanding, sums: Counts[str]) -> dict[str, int]:
    """How many calls have callbacks that are not delivered, how many are due, and the results of past tries."""
    counts = {result: sums[f"callbacks.{result}"] for result in CALLBACK_RESULTS}
    return {"waiting_calls": standing.calls, "due": sum(standing.due.values()), **counts}


def _replica(replica: Replica) -> dict[str, Any]:
    return {
        "id": replica.id,
        "version": replica.version,
        "started_at": iso_of(replica.started_at_ms),
        "last_seen": iso_of(replica.last_seen_ms),
        "processes": replica.processes,
        "parked_polls": replica.parked_polls,
        "spool": replica.spool,
    }


def _by_name(sums: Counts[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sums.items() if name.startswith(prefix)}


def _rate(part: float, whole: float) -> float | None:
    """None while ``whole`` is 0: nothing has happened yet, so the rate is unknown."""
    return round(part / whole, 4) if whole else None
