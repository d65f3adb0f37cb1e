"""The body of the stats, as OpenAPI describes it. The tests compare real answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.openapi.bodies import Count, MissingBuckets, Succeeded
from service.calls.call_record import DataStatusName, Moment, StatusName
from service.calls.ended_reasons import Outcome, Retry

Rate = Annotated[float | None, Meta(description="0 to 1; null before anything has happened")]
EpochMs = Annotated[int, Meta(description="ms since 1970")]


class StatsEntry(Struct):
    callId: str  # noqa: N815
    status: StatusName
    dataStatus: DataStatusName  # noqa: N815
    timestamp: Annotated[
        int, Meta(description="When what the record shows last changed, `expires_at` aside; ms since 1970")
    ]
    expiresAt: EpochMs  # noqa: N815
    createdAt: EpochMs  # noqa: N815
    overAt: Annotated[  # noqa: N815
        EpochMs | None, Meta(description="When the first event that ended the call was applied; null before")
    ]
    startedAt: Annotated[EpochMs | None, Meta(description="By VAPI; null while unknown")]  # noqa: N815
    endedAt: Annotated[EpochMs | None, Meta(description="By VAPI; null while unknown")]  # noqa: N815
    durationMinutes: float | None  # noqa: N815
    outcome: Outcome | None
    retry: Retry | None
    endedReason: str | None  # noqa: N815
    phone: Annotated[str | None, Meta(description="Shortened")]


class WebhookCounts(Struct):
    received: Count
    stored: Count
    ignored: Count
    invalid: Count
    unauthorized: Count
    spooled: Count
    failed: Count
    delivery_success_rate: Rate


class CallCounts(Struct):
    ended: Count
    completed: Count
    completion_rate: Rate
    average_duration_minutes: float | None
    outcomes: dict[str, Count]
    retries: dict[str, Count]
    ended_reasons: dict[str, Count]


class WakeLatency(Struct):
    """`counts[i]` polls were answered at most `at_most_ms[i]` after their wake, and later than the bound before."""

    at_most_ms: Annotated[list[float | None], Meta(description="The last has no bound: null")]
    counts: list[Count]


class PollCounts(Struct):
    hits: Count
    misses: Count
    waits: Count
    hit_rate: Rate
    parked: Annotated[Count, Meta(description="Polls that wait now")]
    wake_latency: WakeLatency


class PlacedCounts(Struct):
    """Requests to place a call."""

    placed: Count
    repeated: Count
    refused: Count
    failed: Count
    unknown: Count


class SpoolHeld(Struct):
    waiting: Count
    rejected: Count
    bytes: Count


class ReplicaSeen(Struct):
    """The last three fields as last written, which each process does every second."""

    id: str
    version: str
    started_at: Moment
    last_seen: Moment
    processes: Count
    parked_polls: Count
    spool: Annotated[SpoolHeld | None, Meta(description="Null without one")]


class StoreState(Struct):
    writable: bool
    latency_ms: float
    spool: Annotated[SpoolHeld | None, Meta(description="Of the replica that answers; null without one")]


class RefusedByArchive(Struct):
    callId: str  # noqa: N815
    reason: Annotated[str, Meta(description="The database's name for it")]
    timestamp: EpochMs


class ArchiveState(Struct):
    """Counts of all replicas are null while their part of Redis is away."""

    problem: Annotated[
        str | None, Meta(description="Why the database cannot be used now, as the answering replica sees it")
    ]
    backlog: Annotated[Count, Meta(description="Changes and deletions that are not written yet")]
    backlog_age_s: Annotated[float, Meta(description="Age of the oldest of them")]
    written: Count | None
    set_aside: Annotated[Count | None, Meta(description="Calls that the database refused")]
    given_up: Annotated[Count | None, Meta(description="Calls whose last change the archive lacks")]
    refused: Annotated[list[RefusedByArchive], Meta(description="The newest calls that the database refused")]


class Stats(Struct):
    """The counts are those of all replicas over the last 30 minutes at least; null while their part of Redis is away."""

    size: Annotated[int, Meta(description="Live records")]
    entries: Annotated[list[StatsEntry], Meta(description="The newest records")]
    webhooks: WebhookCounts | None
    calls: CallCounts | None
    polls: PollCounts | None
    placed: PlacedCounts | None
    replicas: list[ReplicaSeen] | None
    store: StoreState
    subscriptions: Annotated[dict[str, Count] | UnsetType, Meta(description="Only with `KESTRA_URL`")] = UNSET
    callbacks: Annotated[dict[str, Count] | UnsetType, Meta(description="Only with `CALLBACK_ALLOWED_PREFIXES`")] = (
        UNSET
    )
    reconciled: Annotated[dict[str, Count] | UnsetType, Meta(description="Only with `VAPI_API_KEY`")] = UNSET
    archive: Annotated[ArchiveState | UnsetType, Meta(description="Only with `DATABASE_URL`")] = UNSET
    missing_buckets: MissingBuckets = UNSET


class StatsAnswer(Struct):
    success: Succeeded
    stats: Stats
