"""What an operator finds in the log: one JSON line per request, and nothing that is nobody's business."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import ask_until_served, post_webhook
from tests.support.vapi_sender import full_report, sample, sample_names, sign

SECRET, READ, ADMIN, WRONG = "s3cret-of-vapi", "t0ken-to-read", "t0ken-to-administer", "wr0ng-secret"
PHONE = "+18645550123"


@pytest.fixture(scope="module")
def replica(redis_process: RedisProcess) -> Iterator[Replica]:
    replica = Replica(
        redis_url=redis_process.url, redis_key_prefix="logs", log_level="debug",
        vapi_webhook_secret=SECRET, api_read_tokens=READ, api_admin_tokens=ADMIN,
    ).start()  # fmt: skip
    yield replica
    replica.stop()


async def line_of(replica: Replica, request_id: str) -> dict[str, Any]:
    """The one access line of a request."""
    found: list[dict[str, Any]] = []

    async def is_there() -> bool:
        lines = map(json.loads, replica.log.splitlines())
        found[:] = [line for line in lines if line.get("request_id") == request_id]
        return bool(found)

    await eventually(is_there)
    (line,) = found
    return line


async def ask(client: httpx2.AsyncClient, method: str, url: str, **more: Any) -> tuple[httpx2.Response, str]:
    """The answer and its request's id; asked again while a busy machine's Redis is late."""
    headers = {"Authorization": f"Bearer {ADMIN}", **more.pop("headers", {})}

    async def ask_once() -> httpx2.Response:
        headers["X-Request-ID"] = f"ask-{uuid.uuid4()}"
        return await client.request(method, url, headers=headers, **more)

    return await ask_until_served(ask_once), headers["X-Request-ID"]


async def test_a_webhook_leaves_one_line_that_says_what_became_of_it(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    body = full_report("logged-1")
    _, request_id = await ask(client, "POST", replica.url + WEBHOOK, json=body, headers={"X-Vapi-Secret": SECRET})
    line = await line_of(replica, request_id)
    assert (line["method"], line["route"], line["status"]) == ("POST", WEBHOOK, 200)
    assert (line["type"], line["call_id"], line["result"]) == ("end-of-call-report", "logged-1", "stored")
    assert line["duration_ms"] > 0
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CALLS + "nobody", 404),
        ("GET", CALLS + "nobody?wait=0.05", 202),
        ("DELETE", CALLS + "nobody", 404),
        ("GET", CALLS + "nobody?wait=soon", 400),
        ("GET", "/nothing/here", 404),
        ("GET", "/health/live", 200),
        ("PUT", "/health/live", 405),
        ("GET", "/metrics", 200),
        ("GET", "/", 200),
    ],
)
async def test_every_request_leaves_one_line_with_its_id_and_status(
    client: httpx2.AsyncClient, replica: Replica, method: str, path: str, status: int
) -> None:
    answer, request_id = await ask(client, method, replica.url + path)
    assert answer.status_code == status
    assert (await line_of(replica, request_id))["status"] == status


async def test_a_phone_number_that_is_asked_for_is_masked(client: httpx2.AsyncClient, replica: Replica) -> None:
    _, request_id = await ask(client, "GET", f"{replica.url}{CALLS}by-phone/{PHONE}")
    assert (await line_of(replica, request_id))["phone"] == "+1864***0123"


async def test_an_id_that_the_service_gave_itself_is_the_one_in_its_log(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    answer = await client.get(replica.url + "/health/live")
    assert (await line_of(replica, answer.headers["x-request-id"]))["route"] == "/health/live"


async def test_the_log_holds_no_secret_no_token_no_number_and_nothing_that_was_said(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    for name in sample_names():
        body = sample(name)
        raw = json.dumps(body).encode()
        await post_webhook(client, replica, body, **{"X-Vapi-Secret": SECRET})
        await post_webhook(client, replica, body, **{"X-Vapi-Secret": WRONG})
        await client.post(replica.url + WEBHOOK, content=raw, headers=sign(raw, SECRET))
        await client.post(replica.url + WEBHOOK, content=raw[:-3], headers={"X-Vapi-Secret": SECRET})
    await ask(client, "GET", f"{replica.url}{CALLS}by-phone/{PHONE}")
    await ask(client, "GET", f"{replica.url}{CALLS}01a0b1c2-d3e4-7000-8abc-0123456789ab?token={READ}")
    _, last = await ask(client, "GET", replica.url + "/health/live", headers={"Authorization": f"Bearer {WRONG}"})
    await line_of(replica, last)
    log = replica.log
    assert [line for line in log.splitlines() if not isinstance(json.loads(line), dict)] == []
    assert [text for text in secrets_and_speech() if text in log] == []


def secrets_and_speech() -> set[str]:
    """Credentials, numbers, and every longer text of the samples that is no identifier or name of a field."""
    texts = {SECRET, READ, ADMIN, WRONG, PHONE, PHONE[1:]}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)
        elif isinstance(value, str) and len(value) > 12 and " " in value:
            texts.add(value[:40])

    for name in sample_names():
        collect(sample(name))
    assert len(texts) > 20
    return texts
