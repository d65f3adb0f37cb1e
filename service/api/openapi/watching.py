"""OpenAPI: what operators and people look at: stats, health, metrics, the lists and pages."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from service import __version__
from service.api.openapi.bodies import (
    Dependency,
    EndpointList,
    HealthReport,
    ListedEndpoint,
    Master,
    Ready,
)
from service.api.openapi.examples import A_CALL_ID
from service.api.openapi.operation import Body, DescribedAnswer, Operation, Parameter, ok
from service.api.openapi.pages import PAGES, TOO_MANY_UNTAKEN
from service.api.openapi.stats_bodies import (
    ArchiveState,
    CallCounts,
    PlacedCounts,
    PollCounts,
    ReplicaSeen,
    SpoolHeld,
    Stats,
    StatsAnswer,
    StatsEntry,
    StoreState,
    WakeLatency,
    WebhookCounts,
)
from service.api.stats import MAX_ENTRIES
from service.metrics.declared import LATENCIES_S
from service.metrics.exposition import CONTENT_TYPE

WATCHING: Final = "watching"

_STATS: Final = Stats(
    size=1,
    entries=[
        StatsEntry(
            callId=A_CALL_ID,
            status="ended",
            dataStatus="complete",
            timestamp=1788264160000,
            expiresAt=1788265960000,
            createdAt=1788264002000,
            overAt=1788264157000,
            startedAt=1788264005000,
            endedAt=1788264155000,
            durationMinutes=2.5,
            outcome="completed",
            retry=None,
            endedReason="assistant-ended-call",
            phone="+1415***0123",
        )
    ],
    webhooks=WebhookCounts(4, 3, 1, 0, 0, 0, 0, 1.0),
    calls=CallCounts(1, 1, 1.0, 2.5, {"completed": 1}, {}, {"assistant-ended-call": 1}),
    polls=PollCounts(
        2, 1, 1, 0.6667, 0, WakeLatency([*(bound * 1000 for bound in LATENCIES_S), None], [0, 1, *[0] * 12])
    ),
    placed=PlacedCounts(1, 0, 0, 0, 0),
    replicas=[
        ReplicaSeen(
            id="replica-a-1f2e3d",
            version=__version__,
            started_at="2026-09-01T11:00:00.000Z",
            last_seen="2026-09-01T12:02:41.000Z",
            processes=1,
            parked_polls=0,
            spool=SpoolHeld(0, 0, 0),
        )
    ],
    store=StoreState(True, 0.4, SpoolHeld(0, 0, 0)),
    archive=ArchiveState(None, 0, 0.0, 3, 0, 0, []),
)

GET_STATS: Final = Operation(
    id="getStats",
    tag=WATCHING,
    summary="what is stored, and the counts of all replicas",
    parameters=(
        Parameter(
            name="limit",
            place="query",
            type=Annotated[int, Meta(ge=0, le=MAX_ENTRIES)],
            description="Most entries; 20 by default",
            example=20,
        ),
    ),
    answers=(ok("The stats", StatsAnswer, quiet=StatsAnswer(True, _STATS)),),
    failures={400: "`limit` is out of bounds"},
)

_WELL: Final = HealthReport(
    success=True,
    status="ok",
    dependencies={"redis": Dependency("ok"), "notifications": Dependency("ok")},
)
_LOST: Final = HealthReport(
    success=False,
    status="degraded",
    dependencies={
        "redis": Dependency(
            "degraded",
            latency_ms=0.4,
            problem="no answer",
            masters={"10.0.0.1:6379": Master("ok", 0.4, None), "10.0.0.2:6379": Master("down", 500.0, "no answer")},
        ),
        "notifications": Dependency("ok"),
        "archive": Dependency("ok", problem=None, backlog=2, backlog_age_s=0.3),
    },
    version=__version__,
    draining=False,
    time_ms=1788264160000,
)

GET_HEALTH: Final = Operation(
    id="getHealth",
    tag=WATCHING,
    summary="every dependency",
    description="Without a token only names and states.",
    takes_token=True,
    answers=(
        ok("A webhook of any call can be durably taken", HealthReport, ok=_WELL),
        ok("The webhooks of some calls can be kept nowhere", HealthReport, status=503, a_shard_is_lost=_LOST),
    ),
    failures={},
)

GET_LIVE: Final = Operation(
    id="getLive",
    tag=WATCHING,
    summary="the process answers",
    answers=(ok("It does", Ready, ok=Ready(True, "ok")),),
    failures={},
)

GET_READY: Final = Operation(
    id="getReady",
    tag=WATCHING,
    summary="a webhook can be durably taken now",
    description="Of some call: a lost shard of a Cluster is shared by all replicas, and none leaves service for it.",
    answers=(ok("It can", Ready, ok=Ready(True, "ok")),),
    failures={503: "Neither Redis nor the spool can take one, or this replica is shutting down"},
)


def _text(media_type: str, type_: Any = str, **examples: Any) -> Body:
    return Body(types=(type_,), examples=examples, media_type=media_type)


GET_METRICS: Final = Operation(
    id="getMetrics",
    tag=WATCHING,
    summary="Prometheus metrics",
    description="All workers of the replica together. `METRICS_PUBLIC=1` opens them to all.",
    answers=(
        DescribedAnswer(
            status=200,
            description="The metrics",
            bodies=(_text(CONTENT_TYPE, one="# TYPE vapi_polls_waiting gauge\nvapi_polls_waiting 3.0\n"),),
        ),
    ),
    failures={},
)

LIST_ENDPOINTS: Final = Operation(
    id="listEndpoints",
    tag=PAGES,
    summary="this list",
    answers=(
        ok(
            "The list",
            EndpointList,
            shortened=EndpointList(
                True, "vapi-cache", __version__, [ListedEndpoint("GET", "/health/live", GET_LIVE.summary)]
            ),
        ),
    ),
    failures={},
)

GET_OPENAPI: Final = Operation(
    id="getOpenAPI",
    tag=PAGES,
    summary="this API as an OpenAPI 3.1 document",
    answers=(ok("The document", dict[str, Any], shortened={"openapi": "3.1.0", "info": {"title": "vapi-cache"}}),),
    failures={503: TOO_MANY_UNTAKEN},
)
