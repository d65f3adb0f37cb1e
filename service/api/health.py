"""The routes for liveness, readiness and detailed health."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.auth import Access
from service.api.responses import JSONResponse
from service.api.state import State
from service.errors import UnavailableError
from service.jobs.archiver import Archiver
from service.kestra.client import KestraClient
from service.store.health import MasterProbe, StoreProbe


async def get_live(_: State, __: Request) -> Response:
    """200 while the process runs. It checks no dependency, so an outage of Redis does not restart replicas."""
    return JSONResponse(status="ok")


async def get_ready(state: State, _: Request) -> Response:
    """200 when the webhooks of at least some calls can be stored durably now.

    A lost shard does not make replicas unready. All replicas lack it, so all would leave service, and the calls of the
    other shards would be lost too.
    """
    if state.shutdown.has_begun:
        raise UnavailableError("Shutting down")
    if problem := state.store_health.topology_problem:
        raise UnavailableError(problem)  # with a spool we would seem ready while it fills
    if not (_has_spool(state) or await state.store_health.is_partly_writable()):
        raise UnavailableError("Neither Redis nor a spool can take a webhook now")
    return JSONResponse(status="ok")


async def get_health(state: State, request: Request) -> Response:
    """The state of every dependency and master. Only callers with a token see what exactly is wrong.

    503 when the webhooks of some calls can be stored neither in Redis nor in the spool.
    """
    is_told_more = state.tokens.access_of(request.scope["named_headers"]) >= Access.READ
    probe = await state.store_health.probe()
    dependencies: dict[str, Any] = {
        "redis": _redis(probe, is_told_more=is_told_more),
        "notifications": {"status": "ok" if state.changes.is_subscribed else "down"},
    }
    if state.spool is not None:
        dependencies["spool"] = {"status": "ok" if state.spool.has_room else "down"}
    if state.archiver is not None:
        dependencies["archive"] = _archive(state.archiver, is_told_more=is_told_more)
    if state.kestra is not None:
        dependencies["kestra"] = await _kestra(state.kestra, is_told_more=is_told_more)
    answer: dict[str, Any] = {"status": _status(state, probe), "dependencies": dependencies}
    if is_told_more:
        answer |= {"version": __version__, "draining": state.shutdown.has_begun, "time_ms": round(time.time() * 1000)}
    return JSONResponse(200 if probe.is_writable or _has_spool(state) else 503, **answer)


def _has_spool(state: State) -> bool:
    return state.spool is not None and state.spool.has_room


def _status(state: State, probe: StoreProbe) -> str:
    """The service's status: down when no webhook can be stored, degraded while a master, the spool or the archive fails."""
    if not (probe.is_partly_writable or _has_spool(state)):
        return "down"
    is_whole = probe.is_writable and (state.spool is None or state.spool.has_room)
    if state.archiver is not None and (state.archiver.problem or state.archiver.is_late):
        return "degraded"
    return "ok" if is_whole else "degraded"


def _redis(probe: StoreProbe, *, is_told_more: bool) -> dict[str, Any]:
    status = "ok" if probe.is_writable else "degraded" if probe.is_partly_writable else "down"
    redis: dict[str, Any] = {"status": status}
    if is_told_more:
        redis |= {"latency_ms": probe.latency_ms, "problem": probe.problem}
    if len(probe.masters) > 1:
        redis["masters"] = {
            name: _master(master, is_told_more=is_told_more) for name, master in sorted(probe.masters.items())
        }
    return redis


def _master(master: MasterProbe, *, is_told_more: bool) -> dict[str, Any]:
    status = {"status": "ok" if master.is_writable else "down"}
    return {**status, "latency_ms": master.latency_ms, "problem": master.problem} if is_told_more else status


def _archive(archiver: Archiver, *, is_told_more: bool) -> dict[str, Any]:
    """Never makes the service itself fail: webhooks do not wait for the archive."""
    status = {"status": "down" if archiver.problem else "degraded" if archiver.is_late else "ok"}
    if not is_told_more:
        return status
    backlog = archiver.backlog
    return {**status, "problem": archiver.problem, "backlog": backlog.changes, "backlog_age_s": round(backlog.age_s, 1)}


async def _kestra(kestra: KestraClient, *, is_told_more: bool) -> dict[str, Any]:
    """Does not affect the service's own status: webhooks and polls do not need Kestra."""
    problem = await kestra.find_problem()
    status = {"status": "down" if problem else "ok"}
    return {**status, "problem": problem} if is_told_more else status
