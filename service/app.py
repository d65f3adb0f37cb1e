"""The service as one ASGI application: the route table, the order of the layers, and the dispatch by path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from service import __version__
from service.api import batches, calls, health, ops, placing, polling, webhook
from service.api.assistant import PATH as ASSISTANT_CONFIG
from service.api.assistant import make_assistant_config
from service.api.auth import Access
from service.api.middleware import RequestMiddleware
from service.api.polling import Polling
from service.api.recording import get_recording
from service.api.responses import JSONResponse
from service.api.state import State
from service.api.stats import get_stats
from service.api.subscriptions import ROUTE as SUBSCRIPTIONS
from service.api.subscriptions import subscribe
from service.api.webhook import Webhook
from service.assembly import assemble
from service.config import Settings
from service.errors import InvalidRequestError, NotFoundError
from service.lifespan import lifespan_of

Handler = Callable[[State, Request], Awaitable[Response]]


def create_app(settings: Settings) -> ASGIApp:
    """The whole service as one ASGI application. Its lifespan opens and closes the connections."""
    state, redis = assemble(settings)
    return RequestMiddleware(_Dispatcher(state, lifespan_of(state, redis)), state)


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
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints[method](scope, receive, send)


def _routes(state: State) -> dict[str, dict[str, tuple[ASGIApp, str]]]:
    """The route table: for each path and method, the endpoint and its description."""
    metrics_access = Access.OPEN if state.settings.metrics_public else Access.READ
    take, poll, page = Webhook(state), Polling(state), ops.OpsPage()

    def endpoint(route: str, handler: Handler, access: Access) -> ASGIApp:
        return _Endpoint(state, route, handler, access)

    by_phone, stats = polling.PREFIX + "by-phone/{phone}", "/api/v1/vapi/cache/stats"
    recording = polling.ROUTE + "/recording"
    return {
        webhook.PATHS[0]: {"POST": (take, "take one VAPI server message")},
        webhook.PATHS[1]: {"POST": (take, "the same")},
        polling.ROUTE: {
            "GET": (poll, "a call's record; ?wait=S waits until it is final"),
            "DELETE": (endpoint(polling.ROUTE, calls.delete_call, Access.ADMIN), "remove a call's record"),
        },
        placing.ROUTE: {
            "POST": (
                endpoint(placing.ROUTE, placing.place_call, Access.DIAL),
                "place a call: a call request, and a method",
            )
        },
        batches.ROUTE: {"POST": (endpoint(batches.ROUTE, batches.place_batch, Access.DIAL), "place up to 100 calls")},
        batches.ONE_ROUTE: {
            "GET": (endpoint(batches.ONE_ROUTE, batches.get_batch, Access.ADMIN), "how far a batch is, for 24 hours")
        },
        by_phone: {
            "GET": (
                endpoint(by_phone, calls.list_calls_by_phone, Access.READ),
                "the calls of a phone number",
            )
        },
        recording: {
            "GET": (endpoint(recording, get_recording, Access.READ), "302 to a fresh link to a call's recording")
        },
        SUBSCRIPTIONS: {
            "POST": (
                endpoint(SUBSCRIPTIONS, subscribe, Access.READ),
                "resume a Kestra execution when the record is final",
            )
        },
        ASSISTANT_CONFIG: {
            "POST": (
                endpoint(ASSISTANT_CONFIG, make_assistant_config, Access.ADMIN),
                "the VAPI assistant for a call request",
            )
        },
        stats: {
            "GET": (
                endpoint(stats, get_stats, Access.ADMIN),
                "what is stored, and the counts of all replicas",
            )
        },
        "/health": {"GET": (endpoint("/health", health.get_health, Access.OPEN), "every dependency")},
        "/health/live": {"GET": (endpoint("/health/live", health.get_live, Access.OPEN), "the process answers")},
        "/health/ready": {
            "GET": (endpoint("/health/ready", health.get_ready, Access.OPEN), "a webhook can be durably taken now")
        },
        ops.ROUTE: {"GET": (endpoint(ops.ROUTE, page.get_page, Access.OPEN), "the operations page, for a browser")},
        ops.FILE_ROUTE: {"GET": (endpoint(ops.FILE_ROUTE, page.get_file, Access.OPEN), "its files, and the runbook")},
        "/metrics": {"GET": (endpoint("/metrics", health.get_metrics, metrics_access), "Prometheus metrics")},
    }


class _Dispatcher:
    """Finds the endpoint: for webhooks and polls by their path, for everything else with Starlette's router."""

    def __init__(self, state: State, lifespan: Callable[[Router], Any]) -> None:
        table = _routes(state)
        self._webhook = table[webhook.PATHS[0]]["POST"][0]
        self._poll = table[polling.ROUTE]["GET"][0]
        self._endpoints = [
            {"method": method, "path": path, "description": description}
            for path, methods in table.items()
            for method, (_, description) in methods.items()
        ]
        routes: list[BaseRoute] = [
            Route(path, _ByMethod({method: app for method, (app, _) in methods.items()}), methods=list(methods))
            for path, methods in table.items()
        ]
        routes.append(Route("/", _Endpoint(state, "/", self._list, Access.OPEN), methods=["GET"]))
        self._router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            method = scope["method"]
            if method == "POST" and path in webhook.PATHS:
                await self._webhook(scope, receive, send)
                return
            if method == "GET" and path.startswith(polling.PREFIX) and "/" not in path[len(polling.PREFIX) :]:
                await self._poll(scope, receive, send)
                return
            scope["app"] = self  # makes Starlette raise a 405 instead of answering in plain text
        await self._router(scope, receive, send)

    async def _list(self, _: State, __: Request) -> Response:
        return JSONResponse(service="vapi-cache", version=__version__, endpoints=self._endpoints)


async def _not_found(scope: Scope, _: Receive, __: Send) -> None:
    if b"%2f" in scope.get("raw_path", b"").lower():
        raise InvalidRequestError("A path's part must not contain a slash")
    raise NotFoundError("Not found; GET / lists the endpoints")
