"""Every metric, declared once, and the counts for the stats route.

Labels are bounded: all message types that VAPI does not document share one label, and results are ours. With several
workers the values are in files that all workers share (``PROMETHEUS_MULTIPROC_DIR``, set before this module is
imported).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.calls.record import duration_minutes_of, meaning_of_call
from service.calls.stored_call import Merged, StoredCall
from service.log_writer import count_lines_lost

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

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
"""https://docs.vapi.ai/server-url/events and VAPI's OpenAPI document."""

MAX_REASONS: Final = 1000
"""VAPI has about 600 ended reasons. Once there are this many counts, new reasons share one."""

MAX_REASON_LENGTH: Final = 200
"""VAPI's longest has 121 characters."""

LONGEST_CALL_MINUTES: Final = 24 * 60
"""VAPI ends every call after 12 hours. Durations beyond this or below 0 are mistakes and left out of averages."""

SUBSCRIPTION_RESULTS: Final = ("resumed", "dropped", "retried")
"""Results of a try to resume an execution."""

RECONCILED: Final = ("merged", "unchanged", "missing", "failed")
"""Results of asking VAPI for a call."""

LOST_CONNECTIONS: Final = ("idle", "refused")
"""When descriptors run short: a connection without a whole request was closed, or a new one was refused."""

LATENCIES_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)

WAKE_SUMS: Final = tuple(f"wake.{number}" for number in range(len(LATENCIES_S) + 1))
"""The name of each wake latency's sum: at most the bound at its place in LATENCIES_S; the last is of those beyond."""

PLACED: Final = ("placed", "repeated", "refused", "failed", "unknown")
"""Results of requests to place a call."""


class Metrics:
    """The counts of this process.

    Requests only add to plain sums. ``publish`` updates Prometheus's metrics from them, regularly and before each read.
    ``sums`` goes to Redis for the stats of all replicas.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._webhooks: Counts[tuple[str, str]] = Counts()
        self._polls: Counts[int] = Counts()
        self._requests: Counts[str] = Counts()
        self._request_seconds: defaultdict[str, float] = defaultdict(float)
        self._placed: Counts[tuple[str, str]] = Counts()
        self._sums: Counts[str] = Counts()
        self._waiting = 0
        self._published: defaultdict[tuple[Counter, tuple[str, ...]], float] = defaultdict(float)

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(name, help_text, labels, registry=self._registry)

        self._webhooks_total = counter("vapi_webhooks", "Webhooks by type and what became of them", "type", "result")
        self._polls_total = counter("vapi_polls", "Polls by answer", "result")
        self._placed_total = counter(
            "vapi_calls_placed", "Requests to place a call by what became of them", "method", "result"
        )
        self._requests_total = counter("http_requests", "Requests answered, long polls left out", "route")
        self._seconds_total = counter("http_request_seconds", "Time spent on them", "route")
        self._store_errors_total = counter("vapi_store_errors", "Requests that Redis could not serve")
        self._subscriptions_total = counter(
            "vapi_subscriptions", "Tries to resume a Kestra execution by what became of them", "result"
        )
        self._reconciled_total = counter("vapi_reconciled", "Calls that VAPI was asked for, by result", "result")
        self._refreshed_total = counter(
            "vapi_refreshed", "Complete calls that VAPI was asked for once more, by result", "result"
        )
        self._dropped_total = counter("vapi_fields_dropped", "Fields of webhooks left out for an impossible type")
        self._lines_lost_total = counter("vapi_log_lines_lost", "Lines of the log that could not be written")
        self._connections_lost_total = counter(
            "http_connections_lost", "Connections closed or refused because descriptors ran short", "kind"
        )
        self._waiting_now = Gauge(
            "vapi_polls_waiting", "Long polls parked now", registry=self._registry, multiprocess_mode="livesum"
        )
        self._wake = Histogram(
            "vapi_poll_wake_seconds", "From the wake of a parked poll to its answer", registry=self._registry,
            buckets=LATENCIES_S,
        )  # fmt: skip

    def webhook(self, message_type: str, result: str) -> None:
        """result: stored, ignored, spooled, failed, invalid, unauthorized."""
        self._webhooks[message_type if message_type in KNOWN_TYPES else "other", result] += 1

    def webhook_refused(self) -> None:
        """Count a 503 to VAPI, which the delivery success rate counts as not delivered."""
        self._sums["webhooks.refused"] += 1

    def webhook_acknowledged(self) -> None:
        self._sums["webhooks.acknowledged"] += 1

    def poll(self, status: int) -> None:
        self._polls[status] += 1

    def poll_found(self, *, is_hit: bool, is_wait: bool) -> None:
        self._sums["polls.hits" if is_hit else "polls.misses"] += 1
        if is_wait:
            self._sums["polls.waits"] += 1

    def poll_parked(self, change: int) -> None:
        self._waiting += change

    @property
    def parked_polls(self) -> int:
        return self._waiting

    def poll_woken(self, seconds: float) -> None:
        self._wake.observe(seconds)
        self._sums[WAKE_SUMS[bisect_left(LATENCIES_S, seconds)]] += 1

    def call_placed(self, method: str, result: str) -> None:
        """method: vapi, kestra; result: one of PLACED."""
        self._placed[method, result] += 1
        self._sums[f"placed.{result}"] += 1

    def request(self, route: str, seconds: float) -> None:
        self._requests[route] += 1
        self._request_seconds[route] += seconds

    def store_error(self) -> None:
        self._sums["store.errors"] += 1

    def subscription(self, result: str) -> None:
        """result: one of SUBSCRIPTION_RESULTS."""
        self._sums[f"subscriptions.{result}"] += 1

    def reconciled(self, result: str) -> None:
        """result: one of RECONCILED."""
        self._sums[f"reconciled.{result}"] += 1

    def refreshed(self, result: str) -> None:
        """result: one of RECONCILED."""
        self._sums[f"refreshed.{result}"] += 1

    def connection_lost(self, kind: str) -> None:
        """kind: one of LOST_CONNECTIONS."""
        self._sums[f"connections.{kind}"] += 1

    def fields_dropped(self, count: int) -> None:
        self._sums["fields.dropped"] += count

    def merged(self, merged: Merged) -> None:
        """Count a call once, with what is known when it first becomes final."""
        if merged.became_final is not None:
            self._call_ended(merged.became_final)
        if merged.became_complete:
            self._sums["calls.completed"] += 1

    def _call_ended(self, call: StoredCall) -> None:
        sums = self._sums
        sums["calls.ended"] += 1
        minutes = duration_minutes_of(call)
        if minutes is not None and 0 <= minutes <= LONGEST_CALL_MINUTES:
            sums["calls.with_duration"] += 1
            sums["calls.duration_hundredths"] += round(minutes * 100)
        if (meaning := meaning_of_call(call)) is not None:
            sums[f"outcome.{meaning.outcome}"] += 1
            if meaning.retry is not None:
                sums[f"retry.{meaning.retry}"] += 1
            reason = f"reason.{msgspec.json.decode(call.facts['ended_reason'], type=str)[:MAX_REASON_LENGTH]}"
            known = reason in sums or len(sums) < MAX_REASONS
            sums[reason if known else "reason.other"] += 1

    def sums(self) -> Counts[str]:
        """All counts for the stats, by name."""
        sums = Counts(self._sums)
        for (_, result), count in self._webhooks.items():
            sums["webhooks.received"] += count
            sums[f"webhooks.{result}"] += count
        return sums

    def publish(self) -> None:
        """Update Prometheus's metrics from the counts."""
        for (message_type, result), count in self._webhooks.items():
            self._advance(self._webhooks_total, count, message_type, result)
        for status, count in self._polls.items():
            self._advance(self._polls_total, count, str(status))
        for (method, result), count in self._placed.items():
            self._advance(self._placed_total, count, method, result)
        for route, count in self._requests.items():
            self._advance(self._requests_total, count, route)
            self._advance(self._seconds_total, self._request_seconds[route], route)
        self._advance(self._store_errors_total, self._sums["store.errors"])
        self._advance(self._dropped_total, self._sums["fields.dropped"])
        self._advance(self._lines_lost_total, count_lines_lost())
        for result in SUBSCRIPTION_RESULTS:
            self._advance(self._subscriptions_total, self._sums[f"subscriptions.{result}"], result)
        for kind in LOST_CONNECTIONS:
            self._advance(self._connections_lost_total, self._sums[f"connections.{kind}"], kind)
        for result in RECONCILED:
            self._advance(self._reconciled_total, self._sums[f"reconciled.{result}"], result)
            self._advance(self._refreshed_total, self._sums[f"refreshed.{result}"], result)
        self._waiting_now.set(self._waiting)

    def _advance(self, counter: Counter, count: float, *labels: str) -> None:
        key = (counter, labels)
        (counter.labels(*labels) if labels else counter).inc(count - self._published[key])
        self._published[key] = count

    def exposition(self) -> bytes:
        """The metrics of all workers of this replica in Prometheus's text format; the others' as last published."""
        self.publish()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_dead_workers() -> None:
    """Drop the gauges of killed workers. Their counters stay, because counters must not fall."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(directory).glob("gauge_live*_*.db") if directory else ():
        pid = int(file.stem.rsplit("_", 1)[1])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
