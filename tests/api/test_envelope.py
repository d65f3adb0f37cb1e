"""What every answer has in common: its id, no-store, the shape of errors, HEAD and 405."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS, STATS, WEBHOOK
from tests.support.service_api import deliver, new_call_id, raw_connection, read_answer, request_head
from tests.support.vapi_sender import full_report

ANSWERS = [
    ("GET", "/", 200),
    ("GET", "/health", 200),
    ("GET", "/metrics", 200),
    ("GET", STATS, 200),
    ("GET", CALLS + "nobody", 404),
    ("GET", CALLS + "nobody?wait=0", 202),
    ("GET", CALLS + "nobody?wait=x", 400),
    ("GET", "/nowhere", 404),
    ("POST", "/", 405),
    ("POST", WEBHOOK, 400),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_every_answer_has_an_id_and_is_kept_by_no_cache(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answers = [await client.request(method, path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status] * 2
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * 2
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_the_callers_request_id_comes_back(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, headers={"X-Request-ID": "My-id_1.2"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "My-id_1.2")


@pytest.mark.parametrize("given", ["a b", "", "x" * 65, "a/b", "\u00e9".encode(), "a,b"])
async def test_a_request_id_of_another_form_is_replaced(client: httpx2.AsyncClient, given: str | bytes) -> None:
    answer = await client.get(
        "/health/live", headers=[(b"x-request-id", given if isinstance(given, bytes) else given.encode())]
    )
    assert answer.headers["x-request-id"].encode() != given
    assert answer.headers["x-request-id"] not in ("", given)


async def test_an_unchanged_record_has_an_id_and_is_kept_by_no_cache(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.get(CALLS + call_id, headers={"If-None-Match": "*", "X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (304, "mine")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api",
        "/api/v1/vapi/webhook2",
        CALLS + "a/b",
        BY_PHONE,
        BY_PHONE + "1/2",
        "/health/no",
    ],
)
async def test_what_is_nowhere_is_404(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["success"]) == (404, False)
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", WEBHOOK, {"POST"}),
        ("HEAD", WEBHOOK, {"POST"}),
        ("DELETE", WEBHOOK, {"POST"}),
        ("POST", CALLS + "x", {"GET", "HEAD", "DELETE"}),
        ("PUT", CALLS + "x", {"GET", "HEAD", "DELETE"}),
        ("OPTIONS", CALLS + "x", {"GET", "HEAD", "DELETE"}),
        ("DELETE", BY_PHONE + "1", {"GET", "HEAD"}),
        ("POST", STATS, {"GET", "HEAD"}),
        ("PATCH", "/health", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("TRACE", "/", {"GET", "HEAD"}),
    ],
)
async def test_another_method_is_405_and_told_which_are_allowed(
    client: httpx2.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
    if method != "HEAD":
        assert answer.json()["success"] is False


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/health/ready", "/metrics", STATS, BY_PHONE + "1"])
async def test_head_is_get_without_the_body(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_head_of_a_record_says_what_get_would(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    head, get = await client.head(CALLS + call_id), await client.get(CALLS + call_id)
    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in ("etag", "content-length")] == [
        get.headers[name] for name in ("etag", "content-length")
    ]
    assert (await client.head(CALLS + new_call_id())).status_code == 404


async def test_headers_over_64_kib_are_431(open_replica: Replica) -> None:
    async with raw_connection(open_replica) as (reader, writer):
        writer.write(request_head("GET", "/health/live", x_long="x" * 70_000))
        answer = await read_answer(reader)
    assert (answer.status, answer.json["success"]) == (431, False)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]


async def test_an_error_never_quotes_the_request(client: httpx2.AsyncClient) -> None:
    for path in (
        CALLS + "a private id",
        CALLS + "x?wait=private",
        CALLS + "x?view=private",
        BY_PHONE + "1?limit=private",
    ):
        answer = await client.get(path)
        assert answer.status_code == 400
        assert "private" not in answer.text
    assert "private" not in (await client.get("/private")).text
