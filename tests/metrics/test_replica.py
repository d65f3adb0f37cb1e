"""What the workers of a replica counted is added up, also that of workers which have died."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

from service.metrics.exposition import render_text
from service.metrics.process import Metrics, Snapshot
from service.metrics.replica import WorkerFiles, added_up


def worker(pid: int, *, webhooks: int = 1, **gauges: float) -> Snapshot:
    metrics = Metrics()
    for _ in range(webhooks):
        metrics.webhook("status-update", "stored")
        metrics.webhook_duration.add(0.003)
    metrics.poll_parked(2)
    own = metrics.snapshot({(name,): value for name, value in gauges.items()})
    return msgspec.structs.replace(own, pid=pid)


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


STORED = ("vapi_webhooks", "status-update", "stored")


def test_counts_and_histograms_are_sums_and_gauges_what_is_worse() -> None:
    one = worker(os.getpid(), webhooks=2, vapi_notifications_subscribed=1, vapi_store_buckets_missing=0)
    other = worker(os.getppid(), webhooks=3, vapi_notifications_subscribed=0, vapi_store_buckets_missing=11)
    whole, living = added_up([one, other])
    assert whole.counters[STORED] == 5
    assert sum(whole.histograms["vapi_webhook_duration_seconds"].buckets) == 5
    assert round(whole.histograms["vapi_webhook_duration_seconds"].total, 6) == 0.015
    assert whole.gauges == {
        ("vapi_polls_waiting",): 4,
        ("vapi_streams_open",): 0,
        ("vapi_notifications_subscribed",): 0,
        ("vapi_store_buckets_missing",): 11,
    }
    assert living == [os.getpid(), os.getppid()]


def test_the_counts_of_a_dead_worker_stay_and_its_gauges_go() -> None:
    gone = dead_pid()
    whole, living = added_up([worker(os.getpid()), worker(gone)])
    assert whole.counters[STORED] == 2
    assert whole.gauges == {("vapi_polls_waiting",): 2, ("vapi_streams_open",): 0}
    assert living == [os.getpid()]


def test_each_worker_reads_what_the_others_wrote(tmp_path: Path) -> None:
    files = WorkerFiles(str(tmp_path))
    for webhooks in (1, 5):
        files.write(worker(os.getppid(), webhooks=webhooks))
    own = worker(os.getpid(), webhooks=2)
    files.write(own)
    whole, _ = added_up([own, *files.read_others()])
    assert whole.counters[STORED] == 7


def test_a_disk_that_takes_no_file_costs_only_the_others_numbers(tmp_path: Path) -> None:
    files = WorkerFiles(str(tmp_path / "gone"))
    own = worker(os.getpid(), webhooks=2)
    files.write(own)
    whole, living = added_up([own, *files.read_others()])
    assert (whole.counters[STORED], living) == (2, [os.getpid()])


def test_values_stand_in_the_bucket_of_the_next_bound() -> None:
    metrics = Metrics()
    for seconds in (0, 0.0005, 0.00051, 5, 5.1, 1e9):
        metrics.webhook_duration.add(seconds)
    text = render_text(metrics.snapshot({}), []).decode()
    assert [
        float(line.split()[1]) for line in text.splitlines() if line.startswith("vapi_webhook_duration_seconds_bucket")
    ] == [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 6]
    assert "vapi_webhook_duration_seconds_count 6.0" in text
