"""``GET /calls/batch/{batch_id}``: how far a batch is, for an admin; and the paths beside it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.support.call_requests import calls_to, new_request
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.replica import Replica
from tests.support.routes import BATCH, CALLS
from tests.support.service_api import ADMIN, PROOF, READER, connected, deliver, record_of
from tests.support.vapi_sender import status_update


async def placed_batch(client: httpx2.AsyncClient, replica: Replica, **batch: Any) -> tuple[str, list[Any]]:
    """A batch that is done: its id, by the access line, and its results."""
    answer = await client.post(BATCH, json=batch)
    assert answer.status_code == 200, answer.text
    lines: list[Any] = []

    async def is_logged() -> bool:
        mine = [line for line in replica.log.splitlines() if answer.headers["x-request-id"] in line]
        lines[:] = [parsed for line in mine if "batch_id" in (parsed := json.loads(line))]
        return bool(lines)

    await eventually(is_logged, within_s=60)
    results = answer.json()["results"]
    assert (lines[0]["requests"], lines[0]["placed"]) == (len(results), sum(result["success"] for result in results))
    return lines[0]["batch_id"], results


async def test_a_batch_that_is_done_is_told_whole(dialler: httpx2.AsyncClient, dialling_replica: Replica) -> None:
    batch_id, results = await placed_batch(dialler, dialling_replica, requests=[new_request(), {}, new_request()])
    answer = await dialler.get(f"{BATCH}/{batch_id}")
    whole = {"success": True, "batch_id": batch_id, "done": 3, "total": 3, "results": results}
    assert (answer.status_code, answer.json()) == (200, whole)
    head = await dialler.head(f"{BATCH}/{batch_id}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(answer.content)))


async def test_only_an_admin_is_told(dialler: httpx2.AsyncClient, dialling_replica: Replica) -> None:
    batch_id, _ = await placed_batch(dialler, dialling_replica, requests=[new_request()])
    statuses = []
    for headers in (ADMIN, READER, {"Authorization": "Bearer x"}, {}):
        async with connected(dialling_replica, **headers) as client:
            statuses.append((await client.get(f"{BATCH}/{batch_id}")).status_code)
    assert statuses == [200, 403, 401, 401]


@pytest.mark.parametrize("batch_id", ["0" * 32, "x", "0" * 5000, "%7Bx%7D", "0" * 31 + "G", "recording", "events"])
async def test_a_batch_nobody_knows_is_404(dialler: httpx2.AsyncClient, batch_id: str) -> None:
    answer = await dialler.get(f"{BATCH}/{batch_id}")
    assert (answer.status_code, answer.json()["success"]) == (404, False)


async def test_other_methods_are_405(dialler: httpx2.AsyncClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (await dialler.request(method, f"{BATCH}/{'0' * 32}")).status_code == 405, method


async def test_a_call_named_batch_is_a_call_like_any_other(dialler: httpx2.AsyncClient) -> None:
    await deliver(dialler, status_update("ringing", "batch"), **PROOF)
    assert (await record_of(dialler, "batch"))["call_id"] == "batch"
    assert (await dialler.post(CALLS + "batch/subscriptions", json={})).status_code in (400, 501)
    assert (await dialler.delete(CALLS + "batch")).status_code == 200


async def test_another_body_with_the_same_key_is_422_and_phones_nobody(
    vapi: FakeVapi, dialler: httpx2.AsyncClient
) -> None:
    request, other = new_request(), new_request()
    key = {"Idempotency-Key": f"reused-{request['providerPhone']}"}
    assert (await dialler.post(BATCH, json={"requests": [request]}, headers=key)).status_code == 200
    others = ({"requests": [other]}, {"requests": [request, other]}, {"requests": [request], "method": "vapi"})
    answers = [await dialler.post(BATCH, json=batch, headers=key) for batch in others]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert calls_to(vapi, other["providerPhone"]) == []


async def test_the_same_batch_written_otherwise_is_the_same(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    request = new_request()
    key = {"Idempotency-Key": f"rewritten-{request['providerPhone']}"}
    first = await dialler.post(BATCH, json={"requests": [request]}, headers=key)
    turned = dict(reversed(request.items()))
    second = await dialler.post(BATCH, json={"max_concurrent": 5, "requests": [turned]}, headers=key)
    assert (second.status_code, second.json()) == (200, first.json())
    assert len(calls_to(vapi, request["providerPhone"])) == 1


async def test_whatever_is_json_has_a_result(dialler: httpx2.AsyncClient) -> None:
    wrong = []
    for value in (
        "123456789012345678901234567890",
        "-0.0",
        "1e308",
        '"\\u0000"',
        "[[]]",
        '{"a":{"b":null}}',
        "true",
        "null",
    ):
        answer = await dialler.post(BATCH, content=f'{{"requests":[{value}]}}', headers={"Idempotency-Key": value[:9]})
        if answer.status_code != 200 or [result["success"] for result in answer.json()["results"]] != [False]:
            wrong.append((value, answer.text))
    assert wrong == []
