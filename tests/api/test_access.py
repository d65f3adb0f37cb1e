"""Closed by default: what proves a webhook, what the two kinds of token may do, and how often one may fail."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS, STATS, WEBHOOK
from tests.support.service_api import (
    ADMIN,
    ADMIN_TOKEN,
    PROOF,
    READ_TOKEN,
    READER,
    SECRET,
    connected,
    deliver,
    new_address,
    new_call_id,
)
from tests.support.vapi_sender import full_report, sign, status_update

READS = [("GET", CALLS + "x"), ("GET", BY_PHONE + "+18641234567"), ("GET", "/metrics")]
ADMINS = [("DELETE", CALLS + "x"), ("GET", STATS)]
OPEN = ["/", "/health", "/health/live", "/health/ready"]

INVALID = {"success": False, "error": "Invalid webhook signature"}


def body_of(call_id: str) -> bytes:
    return json.dumps(status_update("queued", call_id)).encode()


def legacy(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Vapi-Signature": hmac.digest(secret.encode(), body, hashlib.sha256).hex()}


@pytest.mark.parametrize(
    "prove",
    [
        lambda _: PROOF,
        lambda _: {"Authorization": f"Bearer {SECRET}"},
        lambda body: sign(body, SECRET),
        lambda body: sign(body, SECRET, timestamp=str(int(time.time()))),
        legacy,
    ],
    ids=["secret", "bearer", "hmac", "hmac in seconds", "legacy"],
)
async def test_each_way_to_prove_a_webhook_is_taken(
    stranger: httpx2.AsyncClient, prove: Callable[[bytes], dict[str, str]]
) -> None:
    body = body_of(new_call_id())
    assert (await stranger.post(WEBHOOK, content=body, headers=prove(body))).status_code == 200


@pytest.mark.parametrize(
    "prove",
    [
        lambda _: {},
        lambda _: {"X-Vapi-Secret": "wrong"},
        lambda _: {"X-Vapi-Secret": "\u00e9".encode()},
        lambda _: {"Authorization": f"Bearer {ADMIN_TOKEN}"},
        lambda body: sign(body, "wrong"),
        lambda body: sign(body + b" ", SECRET),
        lambda body: sign(body, SECRET, timestamp=str(int(time.time()) - 400)),
        lambda body: sign(body, SECRET, timestamp=str(int(time.time()) + 400)),
        lambda body: {"x-signature": sign(body, SECRET)["x-signature"]},
        lambda body: legacy(body + b" "),
        lambda body: legacy(body, "wrong"),
    ],
)
async def test_a_webhook_without_valid_proof_is_refused_and_leaves_nothing(
    stranger: httpx2.AsyncClient, prove: Callable[[bytes], dict[str, str]]
) -> None:
    call_id = new_call_id()
    body = body_of(call_id)
    answer = await stranger.post(WEBHOOK, content=body, headers=prove(body))
    assert (answer.status_code, answer.json()) == (401, INVALID)
    assert (await stranger.get(CALLS + call_id, headers=READER)).status_code == 404


@pytest.mark.parametrize(("method", "path"), READS + ADMINS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer ,"},
        {"Authorization": READ_TOKEN},
        {"Authorization": f"Basic {READ_TOKEN}"},
        {"Authorization": f"Bearer {SECRET}"},
        {"X-Vapi-Secret": SECRET},
    ],
)
async def test_who_shows_no_token_of_ours_is_401(
    stranger: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await stranger.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["success"]) == (401, False)


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization"])
async def test_a_token_in_the_url_counts_for_nothing(stranger: httpx2.AsyncClient, name: str) -> None:
    assert (await stranger.get(CALLS + "x", params={name: READ_TOKEN})).status_code == 401


@pytest.mark.parametrize(("method", "path"), READS)
@pytest.mark.parametrize("headers", [READER, ADMIN, {"authorization": f"bearer {READ_TOKEN}"}])
async def test_either_token_may_read(
    stranger: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert (await stranger.request(method, path, headers=headers)).status_code in (200, 404)


@pytest.mark.parametrize(("method", "path"), ADMINS)
async def test_a_read_token_is_too_little_for_what_admins_do(
    stranger: httpx2.AsyncClient, method: str, path: str
) -> None:
    answer = await stranger.request(method, path, headers=READER)
    assert (answer.status_code, answer.json()["success"]) == (403, False)


async def test_a_refused_delete_deletes_nothing(stranger: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(stranger, full_report(call_id), **PROOF)
    await stranger.delete(CALLS + call_id, headers=READER)
    assert (await stranger.get(CALLS + call_id, headers=READER)).status_code == 200
    assert (await stranger.delete(CALLS + call_id, headers=ADMIN)).status_code == 200


@pytest.mark.parametrize("path", OPEN)
async def test_some_pages_are_open_to_all(stranger: httpx2.AsyncClient, path: str) -> None:
    assert (await stranger.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "valid"),
    [("POST", WEBHOOK, PROOF), ("GET", CALLS + "x", READER), ("GET", STATS, ADMIN), ("GET", "/metrics", READER)],
)
async def test_the_31st_failure_is_429_and_valid_proof_still_passes(
    stranger: httpx2.AsyncClient, method: str, path: str, valid: dict[str, str]
) -> None:
    body = body_of("tried") if method == "POST" else None
    answers = [await stranger.request(method, path, content=body) for _ in range(32)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 2
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert (await stranger.request(method, path, content=body, headers=valid)).status_code in (200, 404)


async def test_failures_of_one_address_are_no_one_elses(stranger: httpx2.AsyncClient, closed_replica: Replica) -> None:
    for _ in range(31):
        await stranger.get(STATS)
    async with connected(closed_replica, **{"X-Forwarded-For": new_address()}) as other:
        assert (await other.get(STATS)).status_code == 401


async def test_addresses_of_one_ipv6_64_fail_together(stranger: httpx2.AsyncClient) -> None:
    statuses = [
        (await stranger.get(STATS, headers={"X-Forwarded-For": f"2001:db8::{number:x}"})).status_code
        for number in range(1, 32)
    ]
    assert statuses == [401] * 30 + [429]
    other = await stranger.get(STATS, headers={"X-Forwarded-For": "2001:db8:0:1::1"})
    assert other.status_code == 401


async def test_too_little_a_token_is_no_failure(stranger: httpx2.AsyncClient) -> None:
    answers = [await stranger.get(STATS, headers=READER) for _ in range(32)]
    assert {answer.status_code for answer in answers} == {403}


async def test_a_secret_alone_closes_everything_else(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(vapi_webhook_secret="older, newer")) as client:
        answers = [await client.request(method, path) for method, path in READS + ADMINS]
        assert [answer.status_code for answer in answers] == [401] * 5
        for secret in ("older", "newer"):
            await deliver(client, status_update("queued"), **{"X-Vapi-Secret": secret})


async def test_a_token_alone_closes_the_webhook(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(api_read_tokens=READ_TOKEN, metrics_public="1")) as client:
        for proof in ({}, {"X-Vapi-Secret": ""}, legacy(body_of("x"), ""), sign(body_of("x"), "")):
            assert (await client.post(WEBHOOK, content=body_of("x"), headers=proof)).status_code == 401
        assert (await client.get("/metrics")).status_code == 200
