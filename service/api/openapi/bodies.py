"""The bodies that no other module has a struct for, as OpenAPI describes them. The tests compare real answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from service.calls.call_record import CallRecord, PendingCall
from service.jobs.dialer import PlacedCall

Succeeded = Annotated[bool, Meta(extra_json_schema={"const": True})]
Failed = Annotated[bool, Meta(extra_json_schema={"const": False})]
Count = Annotated[int, Meta(ge=0)]
MissingBuckets = Annotated[
    list[int] | UnsetType,
    Meta(description="Only while a part of Redis is away: the buckets (of 32) whose calls are not counted or listed"),
]
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


class ServedRecord(CallRecord, kw_only=True):
    """The result of one call. Times are ISO 8601 in UTC."""

    archived: Annotated[
        bool | UnsetType, Meta(description="True when it comes from the archive (`DATABASE_URL`); else absent")
    ] = UNSET


class FoundCall(Struct):
    success: Succeeded
    data: ServedRecord


class AwaitedCall(Struct):
    success: Succeeded
    data: PendingCall


class Pagination(Struct):
    limit: int
    offset: int
    hasMore: bool  # noqa: N815


class CallPage(Struct):
    success: Succeeded
    data: Annotated[list[ServedRecord], Meta(description="Summaries: without `transcript` and `messages`")]
    count: Annotated[int, Meta(description="All live calls of that number, and all that the archive keeps")]
    pagination: Pagination
    missing_buckets: MissingBuckets = UNSET
    archive_missing: Annotated[
        bool | UnsetType, Meta(description="True while the archive is away: only live calls are counted and listed")
    ] = UNSET


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
    """Beside the status only for callers with a token."""

    status: Health
    latency_ms: float | UnsetType = UNSET
    problem: str | UnsetType | None = UNSET
    backlog: Annotated[int | UnsetType, Meta(description="Of the archive: changes that are not written yet")] = UNSET
    backlog_age_s: Annotated[float | UnsetType, Meta(description="Age of the oldest of them")] = UNSET
    masters: Annotated[dict[str, Master] | UnsetType, Meta(description="Of a Cluster")] = UNSET


class HealthReport(Struct):
    """The last three fields only for callers with a token."""

    success: bool
    status: Health
    dependencies: dict[str, Dependency]
    version: str | UnsetType = UNSET
    draining: bool | UnsetType = UNSET
    time_ms: int | UnsetType = UNSET


class ListedEndpoint(Struct):
    method: str
    path: str
    description: str


class EndpointList(Struct):
    success: Succeeded
    service: str
    version: str
    endpoints: list[ListedEndpoint]
