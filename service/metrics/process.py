"""The counts of one process. Requests only add to plain numbers; everything else happens when somebody reads them."""

from __future__ import annotations

import os
import re
import time
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import msgspec

from service.calls.record import duration_minutes_of, meaning_of_call
from service.calls.status import DataStatus
from service.calls.stored_call import Merged, StoredCall
from service.log_writer import count_lines_lost
from service.metrics.declared import (
    AUTH_FAILURES,
    CALL_DURATIONS_S,
    COUNTERS,
    KNOWN_TYPES,
    LATENCIES_S,
    UNKNOWN_OUTCOME,
    WAKE_SUMS,
)
from service.metrics.histogram import Histogram, HistogramState

Series = tuple[str, ...]
"""A metric's name and its label values, in their declared order."""

MAX_REASONS: Final = 1000
"""VAPI has about 600 ended reasons. Once the stats have this many counts, new reasons share one."""

MAX_REASON_LENGTH: Final = 200
"""VAPI's longest has 121 characters."""

MAX_FAILED_REASONS: Final = 100
"""Ended reasons that the metrics name; each is a time series for ever. Further ones share one."""

LISTED_REASON: Final = re.compile(r"[A-Za-z]+(?:[-.](?:[A-Za-z]+|[0-9]{3}))*")
"""All 604 of VAPI's reasons are words and three-digit codes. Another text may hold a number or an id: it is "other"."""

LONGEST_CALL_MINUTES: Final = 24 * 60
"""VAPI ends every call after 12 hours. Durations beyond this or below 0 are mistakes and left out of averages."""

_ACKNOWLEDGED: Final = ("vapi_webhook_deliveries", "acknowledged")
_REFUSED: Final = ("vapi_webhook_deliveries", "refused")
_COMPLETED: Final = ("vapi_calls_completed",)
_STORE_ERRORS: Final = ("vapi_store_errors",)
_REASONS: Final = frozenset(AUTH_FAILURES)

_IN_STATS: Final = {counter.name: counter.in_stats for counter in COUNTERS if counter.in_stats}


class Snapshot(msgspec.Struct):
    """All metrics of a process, or of several added up, at one moment."""

    counters: dict[Series, float]
    gauges: dict[Series, float]
    histograms: dict[str, HistogramState]
    pid: int


class Metrics:
    """The counts of this process.

    For a webhook all of them together take 1.2 us, which is 0.7 % of its 179 us of CPU, and for a poll 1.25 us of 81
    (``tests/bench/counting.py``; the whole in ``results.md``).
    ``snapshot`` is for Prometheus, ``sums`` goes to Redis for the stats of all replicas.
    """

    def __init__(self) -> None:
        self._counts: Counts[Series] = Counts(
            {(counter.name, *values): 0 for counter in COUNTERS for values in counter.begins_with}
        )
        self._request_seconds: defaultdict[str, float] = defaultdict(float)
        self._in_stats_only: Counts[str] = Counts()
        self._failed_reasons: set[str] = set()
        self._waiting = 0
        self.streams_open = 0
        self.webhook_duration = Histogram(LATENCIES_S)
        self.poll_duration = Histogram(LATENCIES_S)
        self.wake_latency = Histogram(LATENCIES_S)
        self.event_latency = Histogram(LATENCIES_S)
        self.store_roundtrip = Histogram(LATENCIES_S)
        self.call_duration = Histogram(CALL_DURATIONS_S)

    def webhook(self, message_type: str, result: str) -> None:
        """result: stored, ignored, spooled, failed, invalid, unauthorized."""
        self._counts["vapi_webhooks", message_type if message_type in KNOWN_TYPES else "other", result] += 1

    def webhook_undecoded(self, result: str) -> None:
        """As ``webhook``, for one whose type is unknown."""
        self._counts["vapi_webhooks", "unknown", result] += 1

    def webhook_refused(self) -> None:
        """Count a 503 to VAPI, which the delivery success rate counts as not delivered."""
        self._counts[_REFUSED] += 1

    def webhook_acknowledged(self) -> None:
        self._counts[_ACKNOWLEDGED] += 1

    def auth_failed(self, reason: str) -> None:
        """reason: one of AUTH_FAILURES."""
        self._counts["vapi_auth_failures", reason if reason in _REASONS else "other"] += 1

    def poll(self, status: int) -> None:
        self._counts["vapi_polls", str(status)] += 1

    def poll_found(self, *, is_hit: bool, is_wait: bool) -> None:
        self._in_stats_only["polls.hits" if is_hit else "polls.misses"] += 1
        if is_wait:
            self._in_stats_only["polls.waits"] += 1

    @property
    def parked_polls(self) -> int:
        return self._waiting

    def poll_parked(self, change: int) -> None:
        self._waiting += change

    def events_sent(self, stream: str, count: int) -> None:
        """stream: one of STREAMS."""
        self._counts["vapi_events_sent", stream] += count

    def call_placed(self, method: str, result: str) -> None:
        """method: vapi, kestra; result: one of PLACED."""
        self._counts["vapi_calls_placed", method, result] += 1

    def request(self, route: str, seconds: float) -> None:
        self._counts["http_requests", route] += 1
        self._request_seconds[route] += seconds

    def store_error(self) -> None:
        self._counts[_STORE_ERRORS] += 1

    def subscription(self, result: str) -> None:
        """result: one of SUBSCRIPTION_RESULTS."""
        self._counts["vapi_subscriptions", result] += 1

    def callback(self, result: str) -> None:
        """result: one of CALLBACK_RESULTS."""
        self._counts["vapi_callbacks", result] += 1

    def reconciled(self, result: str) -> None:
        """result: one of RECONCILED."""
        self._counts["vapi_reconciled", result] += 1

    def refreshed(self, result: str) -> None:
        """result: one of RECONCILED."""
        self._counts["vapi_refreshed", result] += 1

    def archive_written(self, count: int) -> None:
        self._counts[("vapi_archive_written",)] += count

    def archive_set_aside(self, count: int) -> None:
        self._counts[("vapi_archive_set_aside",)] += count

    def archive_given_up(self, count: int) -> None:
        self._counts[("vapi_archive_given_up",)] += count

    def connection_lost(self, kind: str) -> None:
        """kind: one of LOST_CONNECTIONS."""
        self._counts["http_connections_lost", kind] += 1

    def fields_dropped(self, count: int) -> None:
        self._counts[("vapi_fields_dropped",)] += count

    def merged(self, merged: Merged) -> None:
        """Count a call once, with what is known when it first becomes final."""
        if merged.became_final is not None:
            self._call_ended(merged.became_final)
        if merged.became_complete:
            self._counts[_COMPLETED] += 1

    def _call_ended(self, call: StoredCall) -> None:
        sums = self._in_stats_only
        sums["calls.ended"] += 1
        minutes = duration_minutes_of(call)
        if minutes is not None and 0 <= minutes <= LONGEST_CALL_MINUTES:
            sums["calls.with_duration"] += 1
            sums["calls.duration_hundredths"] += round(minutes * 100)
            self.call_duration.add(minutes * 60)
        if call.data_status == DataStatus.FETCH_FAILED:
            self._counts[("vapi_reports_missing",)] += 1
        if (meaning := meaning_of_call(call)) is None:
            self._counts["vapi_calls_ended", UNKNOWN_OUTCOME] += 1
            return
        self._counts["vapi_calls_ended", meaning.outcome] += 1
        reason = msgspec.json.decode(call.facts.ended_reason, type=str)[:MAX_REASON_LENGTH]
        known = f"reason.{reason}" in sums or len(sums) < MAX_REASONS
        sums[f"reason.{reason}" if known else "reason.other"] += 1
        if meaning.retry is not None:
            sums[f"retry.{meaning.retry}"] += 1
        if meaning.outcome == "failed":
            self._counts["vapi_calls_failed", self._label_of(reason)] += 1

    def _label_of(self, reason: str) -> str:
        if reason not in self._failed_reasons:
            if len(self._failed_reasons) >= MAX_FAILED_REASONS or not LISTED_REASON.fullmatch(reason):
                return "other"
            self._failed_reasons.add(reason)
        return reason

    def sums(self) -> Counts[str]:
        """All counts for the stats, by name."""
        sums = Counts(self._in_stats_only)
        for (name, *labels), count in self._counts.items():
            if count and name in _IN_STATS and not (name == "vapi_calls_ended" and labels == [UNKNOWN_OUTCOME]):
                sums[".".join((_IN_STATS[name], *labels[-1:]))] += count
                if name == "vapi_webhooks":
                    sums["webhooks.received"] += count
        sums.update({name: count for name, count in zip(WAKE_SUMS, self.wake_latency.buckets, strict=True) if count})
        return sums

    def snapshot(self, gauges: Mapping[Series, float]) -> Snapshot:
        """All metrics now. ``gauges`` are those that other parts of the service know."""
        return Snapshot(
            counters={
                **self._counts,
                **{("http_request_seconds", route): seconds for route, seconds in self._request_seconds.items()},
                ("vapi_log_lines_lost",): count_lines_lost(),
                ("process_cpu_seconds",): time.process_time(),
            },
            gauges={("vapi_polls_waiting",): self._waiting, ("vapi_streams_open",): self.streams_open, **gauges},
            histograms={
                "vapi_webhook_duration_seconds": self.webhook_duration.state(),
                "vapi_poll_duration_seconds": self.poll_duration.state(),
                "vapi_wake_latency_seconds": self.wake_latency.state(),
                "vapi_event_latency_seconds": self.event_latency.state(),
                "vapi_store_roundtrip_seconds": self.store_roundtrip.state(),
                "vapi_call_duration_seconds": self.call_duration.state(),
            },
            pid=os.getpid(),
        )
