"""A request leaves no cycles behind: the collector of garbage runs seldom here, and until it does they would pile up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import ASGIApp

from service.app import create_app
from service.load_config import load_settings
from tests.support.for_each import for_each
from tests.support.redis_server import RedisProcess
from tests.support.routes import CALLS, STATS, WEBHOOK
from tests.support.service_api import ADMIN, CREDENTIALS, PROOF, READER
from tests.support.vapi_sender import SAMPLE_CALL_ID, sample_bytes, sample_names

ROUNDS = 20

Asked = tuple[str, str, dict[str, str], bytes]
"""Method, target, headers, body."""

REQUESTS: dict[str, Asked] = {
    **{f"webhook: {name}": ("POST", WEBHOOK, PROOF, sample_bytes(name)) for name in sample_names()},
    "webhook: not JSON": ("POST", WEBHOOK, PROOF, b"{"),
    "webhook: no message": ("POST", WEBHOOK, PROOF, b'{"message":{"type":7}}'),
    "webhook: not UTF-8": ("POST", WEBHOOK, PROOF, b'{"message":"\xff"}'),
    "webhook: a wrong secret": ("POST", WEBHOOK, {"X-Vapi-Secret": "wrong", "X-Forwarded-For": "10.9.9.9"}, b"{}"),
    "poll": ("GET", CALLS + SAMPLE_CALL_ID, READER, b""),
    "poll: parked": ("GET", CALLS + "nobody?wait=0.05", READER, b""),
    "poll: unknown": ("GET", CALLS + "nobody", READER, b""),
    "poll: an odd id": ("GET", CALLS + ".odd", READER, b""),
    "poll: not allowed": ("GET", CALLS + "nobody", {"X-Forwarded-For": "10.9.9.8"}, b""),
    "delete: unknown": ("DELETE", CALLS + "nobody", ADMIN, b""),
    "by phone": ("GET", CALLS + "by-phone/+18645550123", READER, b""),
    "stats": ("GET", STATS, ADMIN, b""),
    "health": ("GET", "/health", {}, b""),
    "an unknown path": ("GET", "/nowhere", {}, b""),
}

STATUS = {
    "webhook: not JSON": 400,
    "webhook: no message": 400,
    "webhook: not UTF-8": 400,
    "webhook: a wrong secret": 401,
    "poll: parked": 202,
    "poll: unknown": 404,
    "poll: an odd id": 400,
    "poll: not allowed": 401,
    "delete: unknown": 404,
    "an unknown path": 404,
}
"""Of those that do not get 200."""


class Caller:
    """Calls the application as a server does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, asked: Asked) -> int:
        """The status of the answer."""
        method, target, headers, body = asked
        path, _, query = target.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        incoming: asyncio.Queue[Any] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        outgoing: asyncio.Queue[Any] = asyncio.Queue()
        await self._app(scope, incoming.get, outgoing.put)
        status: int = outgoing.get_nowait()["status"]
        return status


@pytest.fixture
async def caller(redis_process: RedisProcess) -> AsyncIterator[Caller]:
    settings = {"REDIS_URL": redis_process.url, "REDIS_KEY_PREFIX": "api-garbage", **CREDENTIALS}
    app = create_app(load_settings(settings))
    events: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.ensure_future(app(scope, events.get, told.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    yield Caller(app)
    events.put_nowait({"type": "lifespan.shutdown"})
    await life


ATTEMPTS = 5
"""What goes on beside the requests, such as a look at Redis that comes too late on a busy machine, may leave some too."""


@for_each("name", REQUESTS)
async def test_a_request_leaves_no_cycles_behind(caller: Caller, name: str) -> None:
    await caller.ask(REQUESTS["webhook: outbound-end-of-call-report-full"])
    await caller.ask(REQUESTS[name])  # what is made but once may leave some
    left: list[int] = []
    for _ in range(ATTEMPTS):
        gc.collect()
        gc.freeze()  # a look at all that the test run has imported takes a tenth of a second
        gc.disable()
        try:
            statuses = {await caller.ask(REQUESTS[name]) for _ in range(ROUNDS)}
            left.append(gc.collect())
        finally:
            gc.enable()
            gc.unfreeze()
        assert statuses == {STATUS.get(name, 200)}
        if not left[-1]:
            return
    pytest.fail(f"objects in cycles after each {ROUNDS} requests: {left}")
