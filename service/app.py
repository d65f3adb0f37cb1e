"""The service as one ASGI application: the route table, the order of the layers, and the dispatch by path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from service import __version__
from service.api import batches, calls, docs, health, metrics, ops, placing, polling, webhook
from service.api.assistant import PATH as ASSISTANT_CONFIG
from service.api.assistant import make_assistant_config
from service.api.auth import Access
from service.api.events import all_events, call_events
from service.api.middleware import RequestMiddleware
from service.api.openapi import calls as of_calls
from service.api.openapi import events as of_events
from service.api.openapi import pages as of_pages
from service.api.openapi import placing as of_placing
from service.api.openapi import watching as of_watching
from service.api.openapi import webhook as of_webhook
from service.api.openapi.document import OpenAPIDocument
from service.api.openapi.operation import Operation, ServedRoute, listed_endpoints
from service.api.polling import Polling
from service.api.recording import get_recording
from service.api.responses import JSONResponse
from service.api.state import State
from service.api.stats import ROUTE as STATS
from service.api.stats import get_stats
from service.api.subscriptions import ROUTE as SUBSCRIPTIONS
from service.api.subscriptions import subscribe
from service.api.tracing import TracedRequests, open_tracing
from service.api.webhook import Webhook
from service.assembly import assemble
from service.config import Settings
from service.errors import InvalidRequestError, NotFoundError
from service.lifespan import lifespan_of

Handler = Callable[[State, Request], Awaitable[Response]]


def create_app(settings: Settings, environ: Mapping[str, str] | None = None) -> ASGIApp:
    """The whole service as one ASGI application. Its lifespan opens and closes the connections.

    ``environ`` may hold OpenTelemetry's own variables.
    """
    state, redis = assemble(settings)
    app: ASGIApp = _Dispatcher(state, lifespan_of(state, redis))
    if tracing := open_tracing(environ or {}):
        app = TracedRequests(app, tracing)
    return RequestMiddleware(app, state)


class _Endpoint:
    """One handler behind its access check, as an ASGI application."""

    def __init__(self, state: State, route: str, handler: Handler, access: Access) -> None:
        self._state = state
        self._route = route
        self._handler = handler
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route_path"] = self._route
        self._state.tokens.verify(scope, self._access)
        response = await self._handler(self._state, Request(scope, receive))
        await response(scope, receive, send)


class _ByMethod:
    """The endpoints of one path, by method."""

    def __init__(self, endpoints: dict[str, ASGIApp]) -> None:
        self._endpoints = {"HEAD": endpoints["GET"], **endpoints} if "GET" in endpoints else endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoints[scope["method"]](scope, receive, send)


def _routes(state: State) -> list[ServedRoute]:
    """The route table: for each method and path, its endpoint, who may call it, and what OpenAPI says of it."""
    metrics_access = Access.OPEN if state.settings.metrics_public else Access.READ
    take, poll, page = Webhook(state), Polling(state), ops.OpsPage()
    routes: list[ServedRoute] = []

    def add(method: str, path: str, handler: Handler, access: Access, operation: Operation) -> None:
        routes.append(ServedRoute(method, path, _Endpoint(state, path, handler, access), access, operation))

    async def list_endpoints(_: State, __: Request) -> Response:
        return JSONResponse(service="vapi-cache", version=__version__, endpoints=listed_endpoints(routes))

    routes.append(ServedRoute("POST", webhook.PATHS[0], take, None, of_webhook.TAKE_WEBHOOK))
    routes.append(ServedRoute("POST", webhook.PATHS[1], take, None, of_webhook.TAKE_WEBHOOK_TOO))
    routes.append(ServedRoute("GET", polling.ROUTE, poll, Access.READ, of_calls.GET_CALL))
    routes.append(
        ServedRoute("GET", call_events.ROUTE, call_events.CallEvents(state), Access.READ, of_events.FOLLOW_CALL)
    )
    routes.append(ServedRoute("GET", all_events.ROUTE, all_events.AllEvents(state), Access.READ, of_events.FOLLOW_ALL))
    add("DELETE", polling.ROUTE, calls.delete_call, Access.ADMIN, of_calls.DELETE_CALL)
    add("POST", placing.ROUTE, placing.place_call, Access.DIAL, of_placing.PLACE_CALL)
    add("POST", batches.ROUTE, batches.place_batch, Access.DIAL, of_placing.PLACE_BATCH)
    add("GET", batches.ONE_ROUTE, batches.get_batch, Access.ADMIN, of_placing.GET_BATCH)
    add("GET", calls.BY_PHONE_ROUTE, calls.list_calls_by_phone, Access.READ, of_calls.LIST_BY_PHONE)
    add("GET", polling.ROUTE + "/recording", get_recording, Access.READ, of_calls.GET_RECORDING)
    add("POST", SUBSCRIPTIONS, subscribe, Access.READ, of_calls.SUBSCRIBE)
    add("POST", ASSISTANT_CONFIG, make_assistant_config, Access.ADMIN, of_placing.MAKE_ASSISTANT)
    add("GET", STATS, get_stats, Access.ADMIN, of_watching.GET_STATS)
    add("GET", "/health", health.get_health, Access.OPEN, of_watching.GET_HEALTH)
    add("GET", "/health/live", health.get_live, Access.OPEN, of_watching.GET_LIVE)
    add("GET", "/health/ready", health.get_ready, Access.OPEN, of_watching.GET_READY)
    add("GET", "/metrics", metrics.get_metrics, metrics_access, of_watching.GET_METRICS)
    add("GET", "/openapi.json", OpenAPIDocument(routes).get, Access.OPEN, of_watching.GET_OPENAPI)
    add("GET", docs.ROUTE, docs.get_docs, Access.OPEN, of_pages.GET_DOCS)
    add("GET", docs.FILE_ROUTE, docs.get_docs_file, Access.OPEN, of_pages.GET_DOCS_FILE)
    add("GET", ops.ROUTE, page.get_page, Access.OPEN, of_pages.GET_OPS)
    add("GET", ops.FILE_ROUTE, page.get_file, Access.OPEN, of_pages.GET_OPS_FILE)
    add("GET", "/", list_endpoints, Access.OPEN, of_watching.LIST_ENDPOINTS)
    return routes


class _Dispatcher:
    """Finds the endpoint: for webhooks, polls and the streams of calls by their path, for the rest with Starlette's router.

    A parked stream that went through the router holds 1.3 kB more.
    """

    def __init__(self, state: State, lifespan: Callable[[Router], Any]) -> None:
        by_path: dict[str, dict[str, ASGIApp]] = {}
        for route in _routes(state):
            by_path.setdefault(route.path, {})[route.method] = route.app
        self._webhook = by_path[webhook.PATHS[0]]["POST"]
        self._poll = by_path[polling.ROUTE]["GET"]
        self._follow = by_path[call_events.ROUTE]["GET"]
        self._not_ids = {path.removeprefix(polling.PREFIX).partition("/")[0] for path in by_path}
        routes = [
            Route(path, _ByMethod(by_path[path]), methods=[*by_path[path]])
            for path in sorted(by_path, key=_parameters_last)
        ]
        self._router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._endpoint_of(scope)(scope, receive, send)

    def _endpoint_of(self, scope: Scope) -> ASGIApp:
        if scope["type"] == "http":
            path: str = scope["path"]
            method = scope["method"]
            if method == "POST" and path in webhook.PATHS:
                return self._webhook
            if method == "GET" and path.startswith(polling.PREFIX) and "/" not in path[len(polling.PREFIX) :]:
                return self._poll
            if method == "GET" and self._is_of_stream(path):
                return self._follow
            scope["app"] = self  # makes Starlette raise a 405 instead of answering in plain text
        return self._router

    def _is_of_stream(self, path: str) -> bool:
        """Whether the route of a call's events serves it, and no route with a literal part in the id's place does."""
        call_id, _, rest = path.removeprefix(polling.PREFIX).partition("/")
        return rest == "events" and path.startswith(polling.PREFIX) and call_id not in self._not_ids


def _parameters_last(path: str) -> list[bool]:
    """Sorts routes: literal parts of a path win over parameters, for the methods that the literal path has."""
    return [part.startswith("{") for part in path.split("/")]


async def _not_found(scope: Scope, _: Receive, __: Send) -> None:
    if b"%2f" in scope.get("raw_path", b"").lower():
        raise InvalidRequestError("A path's part must not contain a slash")
    raise NotFoundError("Not found; GET / lists the endpoints")
