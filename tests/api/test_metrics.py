"""The metrics: Prometheus's text format, names that dashboards may rely on, labels that callers cannot multiply."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx2

from service.metrics.declared import COUNTERS, GAUGES, HISTOGRAMS
from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import ROOT, Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import READER, connected, deliver, metric, metrics_reach, new_call_id, parked_poll
from tests.support.traffic import metrics_of, post_despite_late_disk
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update

NAMES = {
    **{f"{counter.name}_total": "counter" for counter in COUNTERS},
    **{gauge.name: "gauge" for gauge in GAUGES},
    **{histogram.name: "histogram" for histogram in HISTOGRAMS},
    "process_resident_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_start_time_seconds": "gauge",
}

CONVENTION = re.compile("(vapi|http|process)(_[a-z]+)+")


async def test_the_format_is_prometheus_text(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    types = dict(line.split()[2:4] for line in answer.text.splitlines() if line.startswith("# TYPE"))
    assert {name: types.get(name) for name in NAMES} == NAMES
    assert all(CONVENTION.fullmatch(name) for name in types)
    assert not [name for name in types if name.endswith("_created")]


async def test_each_request_is_in_the_histogram_of_its_kind(client: httpx2.AsyncClient) -> None:
    names = ("vapi_webhook_duration_seconds", "vapi_poll_duration_seconds", "vapi_wake_latency_seconds")
    before = [await metric(client, f"{name}_count") for name in names]
    roundtrips = await metric(client, "vapi_store_roundtrip_seconds_count")
    call_id = new_call_id()
    async with parked_poll(client, call_id) as poll:
        await deliver(client, full_report(call_id))
        assert (await poll).status_code == 200
    await client.get(CALLS + call_id)
    await client.get(CALLS + new_call_id())
    assert [await metric(client, f"{name}_count") for name in names] == [before[0] + 1, before[1] + 2, before[2] + 1]
    assert [await metric(client, f'{name}_bucket{{le="+Inf"}}') for name in names] == [
        await metric(client, f"{name}_count") for name in names
    ]
    assert await metric(client, "vapi_store_roundtrip_seconds_count") > roundtrips
    assert await metric(client, "vapi_webhook_duration_seconds_sum") > 0


async def test_a_poll_that_ends_at_its_deadline_has_no_wake_latency(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    before = await metric(client, "vapi_wake_latency_seconds_count")
    async with parked_poll(client, call_id, wait="2") as poll:
        await deliver(client, status_update("queued", call_id))  # wakes the poll, which parks again
        assert (await poll).status_code == 202
    assert await metric(client, "vapi_wake_latency_seconds_count") == before


async def test_what_the_original_design_wanted_to_know_of_its_calls_is_counted(
    start_replica: Callable[..., Replica],
) -> None:
    async with connected(start_replica(report_grace_s=0.3)) as client:
        await deliver(client, full_report("good", durationSeconds=90))
        await deliver(client, full_report("mail", endedReason="voicemail", durationSeconds=30))
        await deliver(client, preliminary_report("late", endedReason="worker-shutdown"))
        await deliver(client, full_report("odd", endedReason="error +18645550144", durationSeconds=24))
        await client.get(CALLS + "late", params={"wait": "20"})
        shown = await metrics_of(client)
    wanted = {
        'vapi_webhook_deliveries_total{result="acknowledged"}': 4,
        'vapi_webhook_deliveries_total{result="refused"}': 0,
        "vapi_call_duration_seconds_count": 3,
        "vapi_call_duration_seconds_sum": 144,
        'vapi_calls_ended_total{outcome="completed"}': 1,
        'vapi_calls_ended_total{outcome="voicemail"}': 1,
        'vapi_calls_ended_total{outcome="failed"}': 2,
        "vapi_calls_completed_total": 3,
        "vapi_reports_missing_total": 1,
        'vapi_calls_failed_total{reason="worker-shutdown"}': 1,
        'vapi_calls_failed_total{reason="other"}': 1,
    }
    assert {name: value for name, value in shown.items() if name in wanted} == wanted
    assert not [name for name in shown if "18645550144" in name]


async def test_a_reason_that_holds_a_number_or_an_id_is_no_label(start_replica: Callable[..., Replica]) -> None:
    listed = [
        line.split("\t")[0] for line in (ROOT / "tests/samples/vapi-ended-reasons.tsv").read_text().splitlines()[2:]
    ]
    async with connected(start_replica()) as client:
        for number, reason in enumerate((*listed[:130], "sip-864-555-0123", "0b6e7a52-1d7d-4c0e", "x" * 500)):
            await deliver(client, full_report(f"call-{number}", endedReason=reason))
        reasons = re.findall(r'vapi_calls_failed_total\{reason="(.*?)"\}', (await client.get("/metrics")).text)
    assert set(reasons) <= {*listed, "other"}
    assert len(reasons) <= 101


async def test_what_stands_in_redis_is_shown(
    redis_process: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=redis_process.url, redis_key_prefix="gauges", store_timeout_s=1.2)
    async with connected(replica) as client:
        await deliver(
            client, full_report("over"), status_update("in-progress", "running"), status_update("queued", "new")
        )
        expected = {
            "vapi_records": 3,
            "vapi_calls_running": 2,
            "vapi_store_buckets_missing": 0,
            "vapi_notifications_subscribed": 1,
        }
        await metrics_reach(client, expected)

        async def has_grown() -> bool:
            return await metric(client, "vapi_longest_silence_seconds") > 1

        await eventually(has_grown)


async def test_the_spool_is_shown_where_there_is_one(
    tmp_path: Path, client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    assert "\nvapi_spool_bytes " not in (await client.get("/metrics")).text
    with_spool = start_replica(redis_url="redis://127.0.0.1:9", spool_dir=tmp_path / "spool", store_timeout_s=0.2)
    async with connected(with_spool) as spooling:
        taken = await post_despite_late_disk(spooling, with_spool, status_update("queued", "kept"))
        assert taken.status_code == 200
        await metrics_reach(spooling, {"vapi_store_buckets_missing": 32})
        shown = await metrics_of(spooling)
    assert shown['vapi_spool_entries{state="waiting"}'] >= 1, "one that came late may be there twice"
    assert 0 < shown["vapi_spool_bytes"] < shown["vapi_spool_max_bytes"]
    assert shown["vapi_notifications_subscribed"] == 0
    assert "vapi_records" not in shown, "what nobody can see is not 0"


async def test_webhooks_count_by_type_and_result(client: httpx2.AsyncClient) -> None:
    sample = 'vapi_webhooks_total{result="stored",type="end-of-call-report"}'
    before = await metric(client, sample)
    await deliver(client, full_report(new_call_id()))
    assert await metric(client, sample) == before + 1


async def test_polls_count_by_their_answer(client: httpx2.AsyncClient) -> None:
    samples = [f'vapi_polls_total{{result="{status}"}}' for status in (200, 202, 304, 404)]
    before = [await metric(client, sample) for sample in samples]
    call_id = new_call_id()
    await client.get(CALLS + call_id)
    await client.get(CALLS + call_id, params={"wait": "0"})
    await deliver(client, full_report(call_id))
    await client.get(CALLS + call_id)
    await client.get(CALLS + call_id, headers={"If-None-Match": "*"})
    assert [await metric(client, sample) for sample in samples] == [value + 1 for value in before]


async def test_requests_count_by_route_and_long_polls_are_left_out(client: httpx2.AsyncClient) -> None:
    sample = 'http_requests_total{route="/api/v1/vapi/calls/{call_id}"}'
    before = await metric(client, sample)
    await client.get(CALLS + new_call_id())
    await client.get(CALLS + new_call_id(), params={"wait": "0.1"})
    assert await metric(client, sample) == before + 1


async def test_callers_cannot_multiply_the_labels(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, message("a-type-made-up", call_id), message('"}\n1', call_id))
    await client.get("/a-path-made-up")
    await client.request("MADEUP", "/a-path-made-up")
    await client.post(WEBHOOK, json=message("status-update-made-up", None))
    text = (await client.get("/metrics")).text
    assert "made-up" not in text
    assert "MADEUP" not in text
    assert call_id not in text
    assert await metric(client, 'vapi_webhooks_total{result="stored",type="other"}') >= 1


async def test_no_id_or_number_is_in_the_metrics(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id, customer={"number": "+18645550144"}))
    await client.get(CALLS + call_id)
    text = (await client.get("/metrics")).text
    assert call_id not in text
    assert "18645550144" not in text


async def test_the_closed_metrics_need_a_read_token(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get("/metrics")).status_code == 401
    assert (await stranger.get("/metrics", headers=READER)).status_code == 200


def test_the_operators_page_names_every_metric() -> None:
    page = (ROOT / "deploy/README.md").read_text()
    names = [name for name in NAMES if not name.startswith("process_")]
    assert [name for name in names if name not in page] == []
