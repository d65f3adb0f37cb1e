"""A trace of each request by OpenTelemetry, where the extra ``otel`` is installed and an exporter is configured.

The W3C trace context of a request is continued, logged, and passed on to VAPI and Kestra. Without an exporter nothing of
OpenTelemetry is imported, and no layer is added. Its SDK reads the other variables (``OTEL_...``) by itself.
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__
from service.errors import ServiceError
from service.outbound import TRACE_CONTEXT

log = structlog.get_logger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
CONTEXT: Final = ("traceparent", "tracestate")
UNTRACED: Final = ("/health", "/metrics")
"""What load balancers and Prometheus ask for all the time."""

LAST_EXPORT_S: Final = 1.0
"""How long the end of the process waits for the last spans to leave. Docker kills after 10 s unless it is told otherwise."""

ATTRIBUTES: Final = {"call_id": "vapi.call_id", "type": "vapi.message_type", "result": "vapi.result"}
"""What a span takes from the access line, which holds nothing private."""


def open_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """None unless an exporter is configured and the extra is installed."""
    is_configured = any(environ.get(name, "").strip() for name in ENDPOINTS)
    if not is_configured or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        return Tracing(environ.get("OTEL_SERVICE_NAME") or "vapi-cache")
    except ImportError:
        log.warning("tracing.not_installed", advice="an exporter is configured: pip install 'vapi-cache[otel]'")
        return None


class Tracing:
    """Makes spans and sends them, in a thread of its own."""

    def __init__(self, service_name: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": service_name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("vapi-cache", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def begin(self, scope: Scope) -> Any:
        """The span of a request, which continues the sender's trace. A context that is none begins a new one."""
        headers = scope["named_headers"]
        sent = {name: headers[name.encode()].decode("latin-1") for name in CONTEXT if name.encode() in headers}
        context = self._propagator.extract(sent)
        return self._tracer.start_span(scope["method"], context, kind=self._trace.SpanKind.SERVER)

    def context_of(self, span: Any) -> tuple[tuple[str, str], ...]:
        """The headers that continue the span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return tuple(carrier.items())

    def ids_of(self, span: Any) -> dict[str, str]:
        context = span.get_span_context()
        trace_id, span_id = self._trace.format_trace_id(context.trace_id), self._trace.format_span_id(context.span_id)
        return {"trace_id": trace_id, "span_id": span_id}

    def end(self, span: Any, scope: Scope, status: int) -> None:
        route = scope.get("route_path", "unmatched")
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.request.method", scope["method"])
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        for field, attribute in ATTRIBUTES.items():
            if value := scope["log"].get(field):
                span.set_attribute(attribute, value)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    async def close(self) -> None:
        await asyncio.to_thread(self._provider.force_flush, round(LAST_EXPORT_S * 1000))


class TracedRequests:
    """Stands within the layer that logs a request, and around the one that answers it."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
        elif scope["path"].startswith(UNTRACED):
            await self._app(scope, receive, send)
        else:
            await self._trace(scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = self._tracing.begin(scope)
        scope["log"].update(self._tracing.ids_of(span))
        before = TRACE_CONTEXT.set(self._tracing.context_of(span))
        status = 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        except ServiceError as exc:
            status = exc.status  # nothing else of it: its text may quote what somebody sent
            raise
        except HTTPException as exc:
            status = exc.status_code
            raise
        finally:
            TRACE_CONTEXT.reset(before)
            self._tracing.end(span, scope, status)

    def _closing(self, send: Send) -> Send:
        async def send_at_the_end(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await self._tracing.close()
            await send(message)

        return send_at_the_end
