"""The metrics of all workers of the replica together, each read from the file that its worker writes.

prometheus_client has a mode for several processes, which knows no process metrics and no counts that were taken
elsewhere: a request would have to call its ``observe``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from service.metrics.declared import GAUGES
from service.metrics.histogram import HistogramState
from service.metrics.process import Series, Snapshot

_COMBINE: Final[dict[str, Callable[[list[float]], float]]] = {"sum": sum, "max": max, "min": min}
_OVER_WORKERS: Final = {gauge.name: _COMBINE[gauge.over_workers] for gauge in GAUGES}


class WorkerFiles:
    """One file per worker in a folder that all workers of the replica share."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._decode = msgspec.msgpack.Decoder(Snapshot).decode

    def write(self, snapshot: Snapshot) -> None:
        """Replace this worker's file. A reader finds the old one or the new one, never a half.

        On a full disk the old one stays: the others then show this worker's earlier numbers.
        """
        half = self._folder / f"{snapshot.pid}.half"
        with suppress(OSError):
            half.write_bytes(msgspec.msgpack.encode(snapshot))
            half.replace(self._path_of(snapshot.pid))

    def read_others(self) -> Iterator[Snapshot]:
        """What each other worker wrote last, also those that have died."""
        own = self._path_of(os.getpid())
        for path in self._folder.glob("*.metrics"):
            if path != own:
                yield self._decode(path.read_bytes())

    def _path_of(self, pid: int) -> Path:
        return self._folder / f"{pid}.metrics"


def added_up(snapshots: Iterable[Snapshot]) -> tuple[Snapshot, list[int]]:
    """One snapshot of all, and the workers that live.

    The gauges of dead workers are left out. Their counters stay, because counters must not fall.
    """
    own_pid = os.getpid()
    living = []
    counters: defaultdict[Series, float] = defaultdict(float)
    gauges: defaultdict[Series, list[float]] = defaultdict(list)
    histograms: dict[str, HistogramState] = {}
    for one in snapshots:
        for series, count in one.counters.items():
            counters[series] += count
        for name, state in one.histograms.items():
            histograms[name] = histograms[name].plus(state) if name in histograms else state
        if one.pid == own_pid or Path(f"/proc/{one.pid}").exists():
            living.append(one.pid)
            for series, value in one.gauges.items():
                gauges[series].append(value)
    combined = {series: _OVER_WORKERS[series[0]](values) for series, values in gauges.items()}
    return Snapshot(counters=counters, gauges=combined, histograms=histograms, pid=own_pid), living
