"""Traces: continued from the sender, logged, passed on to VAPI and Kestra, free of what is private; and nothing without them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service import __version__
from service.api.tracing import open_tracing
from tests.support import canaries
from tests.support.canaries import ADMIN_TOKEN, WEBHOOK_SECRET, leaks
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.ports import free_port
from tests.support.replica import ROOT, Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import open_client

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
SENT: Final = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "theirs=1"}

WITHOUT: Final = """
import sys
if "missing" in sys.argv:
    sys.modules["opentelemetry"] = None
from service.app import create_app
from service.load_config import load_settings
create_app(load_settings({}), {"OTEL_SERVICE_NAME": "x"})
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        return {"otel_exporter_otlp_endpoint": self.url, "otel_bsp_schedule_delay": "50"}

    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def attributes_of(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def line_of(replica: Replica, call_id: str) -> dict[str, Any]:
    """The access line of a call's webhook."""
    lines = map(json.loads, replica.log.splitlines())
    [found] = [line for line in lines if line["event"] == "request.finished" and line.get("call_id") == call_id]
    line: dict[str, Any] = found
    return line


async def test_a_webhooks_trace_is_continued_and_logged(
    start_replica: Callable[..., Replica], collector: Collector
) -> None:
    replica = start_replica(vapi_webhook_secret=WEBHOOK_SECRET, log_level="debug", **collector.settings)
    async with open_client() as client:
        headers = {"X-Vapi-Secret": WEBHOOK_SECRET, **SENT}
        await client.post(replica.url + WEBHOOK, json=canaries.report("traced-1"), headers=headers)
        await client.get(replica.url + "/health/ready", headers=SENT)
        await client.get(replica.url + "/nowhere", headers={"traceparent": f"00-{canaries.TYPED}-x-01"})
    await eventually(lambda: len(collector.spans()) == 2)
    replica.stop()
    webhook, nowhere = sorted(collector.spans(), key=lambda span: span.start_time_unix_nano)
    assert (webhook.trace_id.hex(), webhook.parent_span_id.hex()) == (TRACE, PARENT)
    assert webhook.name == f"POST {WEBHOOK}"
    assert attributes_of(webhook) == {
        "http.request.method": "POST", "http.route": WEBHOOK, "http.response.status_code": 200,
        "vapi.call_id": "traced-1", "vapi.message_type": "end-of-call-report", "vapi.result": "stored",
    }  # fmt: skip
    line = line_of(replica, "traced-1")
    assert (line["trace_id"], line["span_id"]) == (TRACE, webhook.span_id.hex())
    assert (nowhere.name, nowhere.parent_span_id) == ("GET unmatched", b"")
    assert attributes_of(nowhere)["http.response.status_code"] == 404
    assert __version__.encode() in collector.bodies[0]


async def test_vapi_and_kestra_are_told_the_trace_and_nothing_private_is_exported(
    start_replica: Callable[..., Replica], collector: Collector
) -> None:
    async with FakeVapi(api_key=canaries.VAPI_KEY) as vapi, FakeKestra() as kestra, open_client() as client:
        replica = start_replica(
            api_admin_tokens=ADMIN_TOKEN, vapi_webhook_secret=WEBHOOK_SECRET, kestra_url=kestra.url,
            **vapi.settings, **collector.settings,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", **SENT}
        for method in ("vapi", "kestra"):
            request = {**canaries.CALL_REQUEST, "method": method}
            placed = await client.post(replica.url + CALLS.rstrip("/"), json=request, headers=headers)
            assert placed.status_code == 202
        vapi.refuse_next(400, f"{canaries.PERSON} {canaries.PROVIDER_PHONE}", method="POST")
        await client.post(
            replica.url + CALLS.rstrip("/"), json=canaries.CALL_REQUEST | {"method": "vapi"}, headers=headers
        )
        await client.get(f"{replica.url}{CALLS}by-phone/{canaries.PHONE}", headers=headers)
        await client.get(f"{replica.url}{CALLS}{canaries.TYPED}%20/x?wait={canaries.TYPED}", headers=headers)
        await eventually(lambda: len(collector.spans()) == 5)
    told = [request.headers["traceparent"] for request in vapi.received if request.method == "POST"]
    told += [request.traceparent or "" for request in kestra.requests if request.method == "POST"]
    assert len(told) >= 3
    spans = {span.span_id.hex() for span in collector.spans()}
    for traceparent in told:
        version, trace, span, flags = traceparent.split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert span in spans
    exported = b"".join(collector.bodies).decode("latin-1")
    assert leaks("a span", exported) == []


async def test_a_collector_that_is_away_harms_nobody(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica(
        vapi_webhook_secret=WEBHOOK_SECRET, otel_exporter_otlp_endpoint=f"http://127.0.0.1:{free_port()}"
    )
    async with open_client() as client:
        answer: httpx2.Response = await client.post(
            replica.url + WEBHOOK, json=canaries.report("traced-2"), headers={"X-Vapi-Secret": WEBHOOK_SECRET}
        )
        assert answer.status_code == 200
    replica.terminate()
    assert replica.wait(10) == 0, "orchestrators kill after 10 s"


@pytest.mark.parametrize("extra", ["installed", "missing"])
def test_without_an_exporter_nothing_that_makes_traces_is_imported(extra: str) -> None:
    """redis-py itself imports OpenTelemetry's metrics where they are installed."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, extra], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_tracing_can_be_turned_off() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert open_tracing({**endpoint, "OTEL_SDK_DISABLED": "true"}) is None
    assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}) is None


def test_an_exporter_without_the_extra_is_logged_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
