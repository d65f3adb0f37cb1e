"""Prometheus's text format of a snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from service.metrics.declared import COUNTERS, GAUGES, HISTOGRAMS
from service.metrics.process import Series, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_OF_PROCESSES: Final[dict[str, Callable[[list[float]], float]]] = {
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": sum,
    "process_start_time_seconds": min,
}
"""What is shown of ProcessCollector's metrics, and how the workers' values become one. The CPU time is a counter, which
must not fall when a worker dies, so each worker counts its own."""


def render_text(snapshot: Snapshot, pids: Iterable[int]) -> bytes:
    """The snapshot, with the process metrics of the given processes."""
    registry = CollectorRegistry()
    registry.register(_Collected([*_families(snapshot), *_of_processes(pids)]))
    return generate_latest(registry)


class _Collected:
    """What prometheus_client calls a collector: it gives the families that are ready."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    counts, gauges = _by_name(snapshot.counters), _by_name(snapshot.gauges)
    for counter in COUNTERS:
        counted = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
        for labels, value in counts[counter.name]:
            counted.add_metric(labels, value)
        yield counted
    for gauge in GAUGES:
        gauged = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
        for labels, value in gauges[gauge.name]:
            gauged.add_metric(labels, value)
        yield gauged
    for histogram in HISTOGRAMS:
        state = snapshot.histograms[histogram.name]
        bounds = [*map(str, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(state.buckets), strict=True))
        yield HistogramMetricFamily(histogram.name, histogram.help, buckets, state.total)


def _by_name(values: Mapping[Series, float]) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    found: defaultdict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for (name, *labels), value in values.items():
        found[name].append((tuple(labels), value))
    return found


def _of_processes(pids: Iterable[int]) -> Iterator[Metric]:
    found: defaultdict[str, list[Metric]] = defaultdict(list)
    for pid in pids:
        for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            found[metric.name].append(metric)
    for name, metrics in found.items():
        if name in _OF_PROCESSES:
            values = [metric.samples[0].value for metric in metrics]
            yield GaugeMetricFamily(name, metrics[0].documentation, _OF_PROCESSES[name](values))
