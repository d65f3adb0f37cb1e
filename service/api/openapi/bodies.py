"""The bodies that no other module has a struct for, as OpenAPI describes them. The tests compare real answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from service.calls.call_record import CallRecord, DataStatusName, Moment, PendingCall, StatusName
from service.calls.ended_reasons import Outcome, Retry
from service.jobs.dialer import PlacedCall

Succeeded = Annotated[bool, Meta(extra_json_schema={"const": True})]
Failed = Annotated[bool, Meta(extra_json_schema={"const": False})]
Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float | None, Meta(description="0 to 1; null before anything has happened")]
MissingBuckets = Annotated[
    list[int] | UnsetType,
    Meta(description="Only while a part of Redis is away: the buckets (of 32) whose calls are not counted or listed"),
]
EpochMs = Annotated[int, Meta(description="ms since 1970")]
Health = Literal["ok", "degraded", "down"]


class FailureDetail(Struct):
    path: Annotated[str, Meta(description="Where it is wrong; never what stands there")]
    message: str


class Failure(Struct):
    """Every failure looks like this."""

    success: Failed
    error: Annotated[str, Meta(description="One sentence")]
    details: list[FailureDetail] | UnsetType = UNSET


class Done(Struct):
    success: Succeeded


class DeletedCall(Struct):
    success: Succeeded
    message: str
    callId: str  # noqa: N815 - the original design's name, here and below


class FoundCall(Struct):
    success: Succeeded
    data: CallRecord


class AwaitedCall(Struct):
    success: Succeeded
    data: PendingCall


class Pagination(Struct):
    limit: int
    offset: int
    hasMore: bool  # noqa: N815


class CallPage(Struct):
    success: Succeeded
    data: Annotated[list[CallRecord], Meta(description="Summaries: without `transcript` and `messages`")]
    count: Annotated[int, Meta(description="All live calls of that number")]
    pagination: Pagination
    missing_buckets: MissingBuckets = UNSET


class AcceptedCall(Struct):
    success: Succeeded
    data: PlacedCall


class BatchResult(Struct):
    """The answer that this call request would have got on its own: `data`, or `error` and maybe `details`."""

    success: bool
    data: PlacedCall | UnsetType = UNSET
    error: str | UnsetType = UNSET
    details: list[FailureDetail] | UnsetType = UNSET


class FinishedBatch(Struct):
    success: Succeeded
    results: Annotated[list[BatchResult], Meta(description="In the order of the requests")]


class BatchProgress(Struct):
    success: Succeeded
    batch_id: str
    done: Count
    total: Count
    results: Annotated[
        list[BatchResult | None], Meta(description="In the order of the requests; null for those to come")
    ]


class AssistantAnswer(Struct):
    success: Succeeded
    data: Annotated[dict[str, Any], Meta(description="A whole VAPI assistant, webhook secret included")]


class Ready(Struct):
    success: Succeeded
    status: Literal["ok"]


class Master(Struct):
    status: Health
    latency_ms: float | UnsetType = UNSET
    problem: str | UnsetType | None = UNSET


class Dependency(Struct):
    """`latency_ms` and `problem` only for callers with a token."""

    status: Health
    latency_ms: float | UnsetType = UNSET
    problem: str | UnsetType | None = UNSET
    masters: Annotated[dict[str, Master] | UnsetType, Meta(description="Of a Cluster")] = UNSET


class HealthReport(Struct):
    """The last three fields only for callers with a token."""

    success: bool
    status: Health
    dependencies: dict[str, Dependency]
    version: str | UnsetType = UNSET
    draining: bool | UnsetType = UNSET
    time_ms: int | UnsetType = UNSET


class StatsEntry(Struct):
    callId: str  # noqa: N815
    status: StatusName
    dataStatus: DataStatusName  # noqa: N815
    timestamp: Annotated[int, Meta(description="When a fact last changed; ms since 1970")]
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
    reconciled: Annotated[dict[str, Count] | UnsetType, Meta(description="Only with `VAPI_API_KEY`")] = UNSET
    missing_buckets: MissingBuckets = UNSET


class StatsAnswer(Struct):
    success: Succeeded
    stats: Stats


class ListedEndpoint(Struct):
    method: str
    path: str
    description: str


class EndpointList(Struct):
    success: Succeeded
    service: str
    version: str
    endpoints: list[ListedEndpoint]
