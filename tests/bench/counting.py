"""What counting costs: ``python -m tests.bench.counting`` prints microseconds per request, the best of many short runs.

The best run is the one that nothing else disturbed. For the share of a request, divide by the CPU in results.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from timeit import repeat

from prometheus_client import CollectorRegistry, Histogram

from service.calls.stored_call import Merged
from service.metrics.declared import LATENCIES_S
from service.metrics.process import Metrics

LOOPS, RUNS = 2000, 200


def microseconds(act: Callable[[], object]) -> float:
    return min(repeat(act, number=LOOPS, repeat=RUNS, timer=time.perf_counter)) / LOOPS * 1e6


def main() -> None:
    metrics = Metrics()
    merged = Merged(is_deleted=False, is_changed=True, became_final=None, became_complete=False)
    clock = time.perf_counter
    library = Histogram("one", "One of prometheus_client's own", registry=CollectorRegistry(), buckets=LATENCIES_S)

    def one_webhook() -> None:
        """All that api/middleware.py, api/webhook.py and redis_connection.py count, where a batch has one command."""
        started = clock()
        metrics.merged(merged)
        metrics.webhook("end-of-call-report", "stored")
        metrics.webhook_acknowledged()
        metrics.webhook_duration.add(clock() - started)
        started = clock()
        metrics.store_roundtrip.add(clock() - started)
        metrics.request("/api/v1/vapi/webhook", 0.0012)

    def one_poll() -> None:
        started = clock()
        metrics.poll_found(is_hit=True, is_wait=False)
        metrics.poll_duration.add(clock() - started)
        metrics.poll(200)
        started = clock()
        metrics.store_roundtrip.add(clock() - started)
        metrics.request("/api/v1/vapi/calls/{call_id}", 0.0012)

    print(f"a webhook: {microseconds(one_webhook):.2f} us, a poll: {microseconds(one_poll):.2f} us")
    ours, theirs = microseconds(lambda: metrics.poll_duration.add(0.003)), microseconds(lambda: library.observe(0.003))
    print(f"one value in a histogram: {ours:.2f} us; prometheus_client's observe: {theirs:.2f} us")


if __name__ == "__main__":
    main()
