"""Real answers of every route, with Redis and without, are as the OpenAPI document says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.call_requests import REQUIRED
from tests.support.described_api import DescribedAPI
from tests.support.replica import Replica
from tests.support.routes import BATCH, BY_PHONE, CALLS, STATS, WEBHOOK
from tests.support.service_api import ADMIN, PROOF, READER, connected, deliver, new_call_id
from tests.support.vapi_sender import full_report, status_update


@pytest.fixture
async def described(client: httpx2.AsyncClient) -> DescribedAPI:
    return DescribedAPI((await client.get("/openapi.json")).json())


REQUESTS: list[tuple[str, str, dict[str, str], Any]] = [
    ("GET", CALLS + "nobody", {}, None),
    ("GET", CALLS + "nobody?wait=0", READER, None),
    ("GET", CALLS + "nobody?wait=x", READER, None),
    ("GET", CALLS + "{call_id}", READER, None),
    ("HEAD", CALLS + "{call_id}", READER, None),
    ("GET", CALLS + "{call_id}?view=summary", {**READER, "Prefer": "wait=1"}, None),
    ("GET", CALLS + "{call_id}", {**READER, "If-None-Match": "*"}, None),
    ("GET", CALLS + "{running}", {**READER, "Prefer": "wait=0"}, None),
    ("GET", CALLS + "{call_id}/events?view=summary", READER, None),
    ("GET", CALLS + "{running}/events?wait=0", READER, None),
    ("HEAD", CALLS + "{running}/events?wait=0", READER, None),
    ("GET", CALLS + "{running}/events?wait=x", READER, None),
    ("GET", "/api/v1/vapi/events?wait=0.1", READER, None),
    ("GET", "/api/v1/vapi/events?wait=0.1", {}, None),
    ("GET", BY_PHONE + "+18641234567", READER, None),
    ("GET", BY_PHONE + "+1?limit=0", READER, None),
    ("DELETE", CALLS + "nobody", READER, None),
    ("DELETE", CALLS + "nobody", ADMIN, None),
    ("DELETE", CALLS + "{running}", ADMIN, None),
    ("GET", CALLS + "nobody/recording", READER, None),
    ("POST", CALLS + "nobody/subscriptions", READER, {}),
    ("POST", CALLS[:-1], ADMIN, {}),
    ("POST", CALLS[:-1], {**ADMIN, "Idempotency-Key": "a b"}, {}),
    ("POST", CALLS[:-1], READER, {}),
    ("POST", BATCH, ADMIN, {"requests": [{}]}),
    ("POST", BATCH, ADMIN, {}),
    ("GET", BATCH + "/" + "0" * 32, ADMIN, None),
    ("POST", "/api/v1/vapi/assistant-config", ADMIN, REQUIRED),
    ("GET", STATS, ADMIN, None),
    ("GET", STATS + "?limit=101", ADMIN, None),
    ("GET", "/health", {}, None),
    ("GET", "/health", READER, None),
    ("GET", "/health/live", {}, None),
    ("GET", "/health/ready", {}, None),
    ("GET", "/metrics", READER, None),
    ("GET", "/", {}, None),
    ("GET", "/openapi.json", {}, None),
    ("GET", "/docs", {}, None),
    ("GET", "/docs/start.js", {}, None),
    ("GET", "/docs/favicon-32x32.png", {}, None),
    ("GET", "/docs/nothing", {}, None),
    ("GET", "/ops", {}, None),
    ("GET", "/ops/ops.css", {}, None),
    ("GET", "/ops/ops.js", {}, None),
    ("GET", "/ops/ops.svg", {}, None),
    ("GET", "/ops/runbook", {}, None),
    ("GET", "/ops/nothing", {}, None),
    ("POST", WEBHOOK, {}, {}),
    ("POST", WEBHOOK, PROOF, {}),
    ("POST", WEBHOOK, {**PROOF, "Content-Encoding": "gzip"}, {}),
]


async def test_answers_are_as_described(stranger: httpx2.AsyncClient, described: DescribedAPI) -> None:
    call_id, running = new_call_id(), new_call_id()
    await deliver(stranger, full_report(call_id), status_update("in-progress", running), **PROOF)
    complaints = {}
    for method, path, headers, body in REQUESTS:
        path = path.replace("{call_id}", call_id).replace("{running}", running)  # noqa: PLW2901
        answer = await stranger.request(method, path, headers=headers, json=body)
        assert answer.status_code != 500, path
        if found := described.complaints(method, path, answer.status_code, dict(answer.headers), answer.content):
            complaints[f"{method} {path} {answer.status_code}"] = found
    assert complaints == {}


async def test_answers_without_redis_are_as_described(
    start_replica: Callable[..., Replica], described: DescribedAPI
) -> None:
    complaints = {}
    async with connected(start_replica(redis_url="redis://127.0.0.1:1")) as client:
        for method, path, _, body in REQUESTS:
            answer = await client.request(method, path, json=body)
            if found := described.complaints(method, path, answer.status_code, dict(answer.headers), answer.content):
                complaints[f"{method} {path} {answer.status_code}"] = found
    assert complaints == {}
