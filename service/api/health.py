"""Liveness, readiness, health in detail, and the metrics."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.auth import Access
from service.api.responses import JSONAnswer
from service.api.state import State
from service.errors import UnavailableError
from service.kestra.client import KestraClient
from service.metrics import CONTENT_TYPE


async def get_live(_: State, __: Request) -> Response:
    """The process answers: no dependency is asked, so that an outage of Redis restarts nobody."""
    return JSONAnswer(status="ok")


async def get_ready(state: State, _: Request) -> Response:
    """200 when a webhook can be durably taken now."""
    if state.changes.is_draining:
        raise UnavailableError("Shutting down")
    probe = await state.store_health.probe()
    if problem := state.store_health.topology_problem:
        raise UnavailableError(problem)  # a spool would only hide it, and fill
    if not (probe.is_writable or (state.spool is not None and state.spool.has_room)):
        raise UnavailableError("Neither Redis nor a spool can take a webhook now")
    return JSONAnswer(status="ok")


async def get_health(state: State, request: Request) -> Response:
    """Every dependency; what exactly is wrong only for those who hold a token."""
    is_told_more = state.tokens.access_of(request.scope["named_headers"]) >= Access.READ
    probe = await state.store_health.probe()
    redis: dict[str, Any] = {"status": "ok" if probe.is_writable else "down"}
    subscription: dict[str, Any] = {"status": "ok" if state.changes.is_subscribed else "down"}
    answer: dict[str, Any] = {
        "status": redis["status"],
        "dependencies": {"redis": redis, "notifications": subscription},
    }
    if state.spool is not None:
        answer["dependencies"]["spool"] = {"status": "ok" if state.spool.has_room else "down"}
    if state.kestra is not None:
        answer["dependencies"]["kestra"] = await _kestra(state.kestra, is_told_more=is_told_more)
    if is_told_more:
        redis |= {"latency_ms": probe.latency_ms, "problem": probe.problem}
        answer |= {"version": __version__, "draining": state.changes.is_draining, "time_ms": round(time.time() * 1000)}
    return JSONAnswer(200 if probe.is_writable else 503, **answer)


async def _kestra(kestra: KestraClient, *, is_told_more: bool) -> dict[str, Any]:
    """Its trouble is not ours: webhooks and polls need no Kestra."""
    problem = await kestra.find_problem()
    status = {"status": "down" if problem else "ok"}
    return {**status, "problem": problem} if is_told_more else status


async def get_metrics(state: State, _: Request) -> Response:
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE)
