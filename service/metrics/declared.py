"""Every metric, declared once: its name, what it says, and the label values that are shown from the start.

A counter that appears with its first event has no increase that Prometheus could see. So counters that alerts look at
begin at 0. Labels are bounded: no value is one that a caller can choose freely, and none is an id.
"""

from __future__ import annotations

from itertools import product
from typing import Final, Literal, get_args

import msgspec

from service.calls.ended_reasons import Outcome

LATENCIES_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

WAKE_SUMS: Final = tuple(f"wake.{number}" for number in range(len(LATENCIES_S) + 1))
"""The name in Redis of each bucket of vapi_wake_latency_seconds: at most the bound at its place in LATENCIES_S; the last
is of those beyond."""

CALL_DURATIONS_S: Final = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0)

KNOWN_TYPES: Final = frozenset(
    (
        "assistant-request", "assistant.speechStarted", "assistant.started", "call.artifact.upload",
        "call.delete.failed", "call.deleted", "call.endpointing.request", "campaign.predial", "chat.created",
        "chat.deleted", "conversation-update", "end-of-call-report", "function-call", "handoff-destination-request",
        "hang", "knowledge-base-request", "language-change-detected", "language-changed", "model-output",
        "phone-call-control", "session.created", "session.deleted", "session.updated", "speech-update",
        "status-update", "tool-calls", "transcript", "transfer-destination-request", "transfer-update",
        "user-interrupted", "voice-input", "voice-request",
    )
)  # fmt: skip
"""https://docs.vapi.ai/server-url/events and VAPI's OpenAPI document. All other types share one label."""

UNKNOWN_TYPE: Final = "unknown"
"""The type of a webhook that was refused before it was decoded."""

SUBSCRIPTION_RESULTS: Final = ("resumed", "dropped", "retried")
"""Results of a try to resume an execution."""

STREAMS: Final = ("one_call", "all_calls")
"""What a stream of events is about."""

CALLBACK_RESULTS: Final = ("delivered", "dropped", "retried")
"""Results of a try to send a callback."""

RECONCILED: Final = ("merged", "unchanged", "missing", "failed")
"""Results of asking VAPI for a call."""

PLACED: Final = ("placed", "repeated", "refused", "failed", "unknown")
"""Results of a request to place a call."""

LOST_CONNECTIONS: Final = ("idle", "refused")
"""When descriptors run short: a connection without a whole request was closed, or a new one was refused."""

NO_BEARER: Final = "no token"
UNKNOWN_BEARER: Final = "unknown token"
LACKS_ADMIN: Final = "no admin token"

AUTH_FAILURES: Final = (
    "no proof header", "no secret fits", "signature does not match the body", "signature is malformed",
    "signature lacks the configured prefix", "timestamp header missing or not a number",
    "timestamp is more than 5 minutes off", NO_BEARER, UNKNOWN_BEARER, LACKS_ADMIN,
)  # fmt: skip
"""Why a request was refused: for webhooks the reasons that vapi/authentication.py logs, then those for tokens."""

UNKNOWN_OUTCOME: Final = "unknown"
"""The outcome of a call that became final without an ended reason."""


class CounterOf(msgspec.Struct, frozen=True):
    name: str
    """Without the ``_total`` that the text format adds."""
    help: str
    labels: tuple[str, ...] = ()
    begins_with: tuple[tuple[str, ...], ...] = ()
    """Label values that are shown from the start; for a counter without labels the one empty tuple."""
    in_stats: str = ""
    """Its name among the counts that go to Redis for the stats, followed by the last label; empty: it is not there."""


class GaugeOf(msgspec.Struct, frozen=True):
    name: str
    help: str
    labels: tuple[str, ...] = ()
    over_workers: Literal["sum", "max", "min"] = "max"
    """How the values of the replica's workers become one. Where all see the same, the value that is worse."""


class HistogramOf(msgspec.Struct, frozen=True):
    name: str
    help: str
    bounds: tuple[float, ...]


def _each(*values: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(product(*values))


_ONE: Final = ((),)

COUNTERS: Final = (
    CounterOf(
        "vapi_webhooks", "Webhooks by type and what became of them", ("type", "result"),
        _each((UNKNOWN_TYPE,), ("unauthorized", "invalid", "failed")), in_stats="webhooks",
    ),
    CounterOf(
        "vapi_webhook_deliveries", "Webhooks that were acknowledged, or refused with a 503", ("result",),
        _each(("acknowledged", "refused")), in_stats="webhooks",
    ),
    CounterOf(
        "vapi_auth_failures", "Requests without valid proof or token, by reason", ("reason",), _each(AUTH_FAILURES)
    ),
    CounterOf(
        "vapi_polls", "Polls by the status of their answer", ("result",), _each(("200", "202", "304", "404", "503"))
    ),
    CounterOf(
        "vapi_events_sent", "Server-sent events, heartbeats left out, by what their stream is about", ("stream",),
        _each(STREAMS),
    ),
    CounterOf(
        "vapi_calls_ended", "Calls by outcome, each once, as known when it first became final", ("outcome",),
        _each((*get_args(Outcome), UNKNOWN_OUTCOME)), in_stats="outcome",
    ),
    CounterOf("vapi_calls_completed", "Calls whose record became complete", (), _ONE, in_stats="calls.completed"),
    CounterOf("vapi_calls_failed", "Calls with the outcome failed, by ended reason", ("reason",)),
    CounterOf("vapi_reports_missing", "Calls that became final without a full report", (), _ONE),
    CounterOf(
        "vapi_calls_placed", "Requests to place a call by what became of them", ("method", "result"),
        _each(("vapi", "kestra"), PLACED), in_stats="placed",
    ),
    CounterOf(
        "vapi_reconciled", "Calls that VAPI was asked for, by result", ("result",), _each(RECONCILED),
        in_stats="reconciled",
    ),
    CounterOf(
        "vapi_refreshed", "Complete calls that VAPI was asked for once more, by result", ("result",), _each(RECONCILED),
        in_stats="refreshed",
    ),
    CounterOf(
        "vapi_subscriptions", "Tries to resume a Kestra execution by what became of them", ("result",),
        _each(SUBSCRIPTION_RESULTS), in_stats="subscriptions",
    ),
    CounterOf(
        "vapi_archive_written", "Changes of calls that became rows, and deletions of rows", (), _ONE,
        in_stats="archive.written",
    ),
    CounterOf("vapi_archive_set_aside", "Calls that PostgreSQL refused", (), _ONE, in_stats="archive.set_aside"),
    CounterOf(
        "vapi_archive_given_up", "Calls whose last change the archive lacks, as it waited for too long", (), _ONE,
        in_stats="archive.given_up",
    ),
    CounterOf(
        "vapi_callbacks", "Tries to send a callback by what became of them", ("result",), _each(CALLBACK_RESULTS),
        in_stats="callbacks",
    ),
    CounterOf("vapi_store_errors", "Requests that Redis could not serve", (), _ONE, in_stats="store.errors"),
    CounterOf(
        "vapi_fields_dropped", "Fields of webhooks left out for an impossible type", (), _ONE,
        in_stats="fields.dropped",
    ),
    CounterOf("vapi_log_lines_lost", "Lines of the log that could not be written", (), _ONE),
    CounterOf("http_requests", "Requests answered, long polls and event streams left out", ("route",)),
    CounterOf("http_request_seconds", "Time spent on them", ("route",)),
    CounterOf(
        "http_connections_lost", "Connections closed or refused because descriptors ran short", ("kind",),
        _each(LOST_CONNECTIONS), in_stats="connections",
    ),
    CounterOf("process_cpu_seconds", "User and system CPU time of the workers", (), _ONE),
)  # fmt: skip

HISTOGRAMS: Final = (
    HistogramOf(
        "vapi_webhook_duration_seconds",
        "Proven webhooks, from the whole body to the end of their handling",
        LATENCIES_S,
    ),
    HistogramOf("vapi_poll_duration_seconds", "Polls that do not wait, from request to answer", LATENCIES_S),
    HistogramOf(
        "vapi_wake_latency_seconds", "From the notice of a change to the answer of a poll parked for it", LATENCIES_S
    ),
    HistogramOf(
        "vapi_event_latency_seconds", "From the notice of a change to its event on a stream of that call", LATENCIES_S
    ),
    HistogramOf(
        "vapi_store_roundtrip_seconds", "From writing a batch of commands to Redis to its last reply", LATENCIES_S
    ),
    HistogramOf(
        "vapi_call_duration_seconds",
        "Calls by length, each once, as known when it first became final",
        CALL_DURATIONS_S,
    ),
)

GAUGES: Final = (
    GaugeOf("vapi_polls_waiting", "Long polls parked now", over_workers="sum"),
    GaugeOf("vapi_streams_open", "Streams of events that are open now", over_workers="sum"),
    GaugeOf("vapi_records", "Live records in Redis, the same on every replica"),
    GaugeOf("vapi_calls_running", "Records that are not final, the same on every replica"),
    GaugeOf(
        "vapi_longest_silence_seconds", "Time since the last event of the record that is not final and longest silent"
    ),
    GaugeOf("vapi_store_buckets_missing", "How many of the 32 buckets in Redis did not answer the last look"),
    GaugeOf("vapi_notifications_subscribed", "1 while notifications of changes arrive from Redis", over_workers="min"),
    GaugeOf(
        "vapi_subscribed_calls", "Calls that are not final and for which executions wait; the same on every replica"
    ),
    GaugeOf("vapi_subscriptions_due", "Executions to be resumed now, the same on every replica"),
    GaugeOf("vapi_callback_calls", "Calls with callbacks that are not delivered, running ones included"),
    GaugeOf("vapi_callbacks_due", "Callbacks to be sent now, the same on every replica"),
    GaugeOf("vapi_spool_entries", "Changes in the spool, by whether they wait or were set aside", ("state",)),
    GaugeOf("vapi_spool_bytes", "Bytes that the spool holds"),
    GaugeOf("vapi_spool_max_bytes", "SPOOL_MAX_BYTES"),
    GaugeOf("vapi_archive_up", "1 while PostgreSQL can be used", over_workers="min"),
    GaugeOf("vapi_archive_backlog", "Changes and deletions that are not written yet, the same on every replica"),
    GaugeOf("vapi_archive_backlog_age_seconds", "Age of the oldest of them"),
    GaugeOf("vapi_build_info", "1; the labels say what runs", ("version", "python")),
)
