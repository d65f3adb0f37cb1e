"""The metrics: Prometheus's text format, names that dashboards may rely on, labels that callers cannot multiply."""

from __future__ import annotations

import httpx2

from tests.support.service_api import CALLS, READER, WEBHOOK, deliver, metric, new_call_id
from tests.support.vapi_sender import full_report, message, status_update

NAMES = {
    "vapi_webhooks_total": "counter",
    "vapi_polls_total": "counter",
    "vapi_polls_waiting": "gauge",
    "vapi_wake_latency_seconds": "histogram",
    "http_requests_total": "counter",
    "http_request_seconds_total": "counter",
    "vapi_store_errors_total": "counter",
    "vapi_fields_dropped_total": "counter",
}


async def test_the_format_is_prometheus_text(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    types = dict(line.split()[2:4] for line in answer.text.splitlines() if line.startswith("# TYPE"))
    assert {name: types.get(name) for name in NAMES} == NAMES


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
