"""Every metric, declared once, and the counts behind the stats page.

Labels are bounded: message types that VAPI does not document are one label, results are ours. With several workers
the values live in files that all of them share (``PROMETHEUS_MULTIPROC_DIR``, set before this module is imported).
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from service.calls.record import duration_minutes_of, outcome_of_call
from service.store.calls import Merged, StoredCall

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
"""VAPI knows about 600 ended reasons; beyond this many, others share one count."""

MAX_REASON_LENGTH: Final = 200
"""VAPI's longest has 121 characters."""

LATENCIES_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)


class Metrics:
    """What this process counts. ``tally`` holds plain sums, which go to Redis each second for the stats of all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tally: Tally[str] = Tally()
        self._webhooks = Counter(
            "vapi_webhooks", "Webhooks by message type and what became of them", ("type", "result"),
            registry=self.registry,
        )  # fmt: skip
        self._polls = Counter("vapi_polls", "Polls by answer", ("result",), registry=self.registry)
        self._waiting = Gauge(
            "vapi_polls_waiting", "Long polls parked now", registry=self.registry, multiprocess_mode="livesum"
        )
        self._wake = Histogram(
            "vapi_poll_wake_seconds", "From the wake of a parked poll to its answer", registry=self.registry,
            buckets=LATENCIES_S,
        )  # fmt: skip
        self._requests = Histogram(
            "http_request_duration_seconds", "From the request's head to the end of the answer; long polls left out",
            ("route",), registry=self.registry, buckets=LATENCIES_S,
        )  # fmt: skip
        self._store_errors = Counter("vapi_store_errors", "Requests that Redis could not serve", registry=self.registry)
        self._dropped = Counter(
            "vapi_fields_dropped", "Fields of webhooks left out for an impossible type", registry=self.registry
        )
        self._children: dict[tuple[str, str], Counter] = {}
        self._poll_children: dict[str, Counter] = {}
        self._route_children: dict[str, Histogram] = {}

    def webhook(self, message_type: str, result: str) -> None:
        """result: stored, ignored, spooled, failed, invalid, unauthorized."""
        label = message_type if message_type in KNOWN_TYPES else "other"
        child = self._children.get((label, result))
        if child is None:
            child = self._children[label, result] = self._webhooks.labels(label, result)
        child.inc()
        self.tally["webhooks.received"] += 1
        self.tally[f"webhooks.{result}"] += 1

    def webhook_refused(self) -> None:
        """A 503 to VAPI: what the delivery success rate counts as not delivered."""
        self.tally["webhooks.refused"] += 1

    def webhook_acknowledged(self) -> None:
        self.tally["webhooks.acknowledged"] += 1

    def poll(self, status: int) -> None:
        result = str(status)
        child = self._poll_children.get(result)
        if child is None:
            child = self._poll_children[result] = self._polls.labels(result)
        child.inc()

    def poll_found(self, *, is_hit: bool, is_wait: bool) -> None:
        self.tally["polls.hits" if is_hit else "polls.misses"] += 1
        if is_wait:
            self.tally["polls.waits"] += 1

    def poll_parked(self, change: int) -> None:
        self._waiting.inc(change)

    def poll_woken(self, seconds: float) -> None:
        self._wake.observe(seconds)

    def request(self, route: str, seconds: float) -> None:
        child = self._route_children.get(route)
        if child is None:
            child = self._route_children[route] = self._requests.labels(route)
        child.observe(seconds)

    def store_error(self) -> None:
        self._store_errors.inc()

    def fields_dropped(self, count: int) -> None:
        self._dropped.inc(count)

    def merged(self, merged: Merged) -> None:
        """Count a call once, as it is known when it first becomes final."""
        if merged.became_final is not None:
            self._call_ended(merged.became_final)
        if merged.became_complete:
            self.tally["calls.completed"] += 1

    def _call_ended(self, call: StoredCall) -> None:
        self.tally["calls.ended"] += 1
        minutes = duration_minutes_of(call)
        if minutes is not None:
            self.tally["calls.with_duration"] += 1
            self.tally["calls.duration_hundredths"] += round(minutes * 100)
        if (outcome := outcome_of_call(call)) is not None:
            self.tally[f"outcome.{outcome}"] += 1
            reason = f"reason.{msgspec.json.decode(call.small[1][1:], type=str)[:MAX_REASON_LENGTH]}"
            known = reason in self.tally or len(self.tally) < MAX_REASONS
            self.tally[reason if known else "reason.other"] += 1

    def exposition(self) -> bytes:
        """Prometheus's text format, of all workers of this replica."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget_dead_workers() -> None:
    """Drop the gauges of workers that were killed; their counters stay, for counters must not fall."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(directory).glob("gauge_live*_*.db") if directory else ():
        pid = int(file.stem.rsplit("_", 1)[1])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
