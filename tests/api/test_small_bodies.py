"""Routes that take little refuse much: 413 beyond 64 KiB, a batch of calls beyond a megabyte, announced or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.call_requests import REQUIRED
from tests.support.replica import Replica
from tests.support.routes import BATCH
from tests.support.service_api import ADMIN, CREDENTIALS, chunk, connected, raw_connection, read_answer, request_head

SUBSCRIPTIONS: Final = "/api/v1/vapi/calls/small-1/subscriptions"
LIMITS: Final = {
    SUBSCRIPTIONS: 65_536,
    "/api/v1/vapi/calls": 65_536,
    "/api/v1/vapi/assistant-config": 65_536,
    BATCH: 1_048_576,
}
"""Bytes of a body, by route."""


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    replica = Replica(**CREDENTIALS, kestra_url="http://127.0.0.1:1").start()
    yield replica
    replica.stop()


async def status_of(replica: Replica, path: str, sent: bytes, **headers: object) -> int:
    async with raw_connection(replica) as (reader, writer):
        writer.write(request_head("POST", path, authorization=ADMIN["Authorization"], **headers) + sent)
        return (await read_answer(reader)).status


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_413(replica: Replica) -> None:
    wrong = []
    for path, limit in LIMITS.items():
        for size, status in ((limit, 400), (limit + 1, 413)):
            body = b"[" + b" " * (size - 2) + b"]"
            answers = {
                "announced": await status_of(replica, path, body, content_length=size),
                "streamed": await status_of(
                    replica, path, chunk(body[: size // 2]) + chunk(body[size // 2 :]) + chunk(b""),
                    transfer_encoding="chunked",
                ),
            }  # fmt: skip
            wrong += [(path, size, form, got) for form, got in answers.items() if got != status]
    assert wrong == []


async def test_an_announced_length_beyond_the_limit_is_413_before_anything_is_sent(replica: Replica) -> None:
    for path, limit in LIMITS.items():
        assert await status_of(replica, path, b"", content_length=limit + 1) == 413, path


async def test_a_batch_of_a_hundred_long_requests_is_read(replica: Replica) -> None:
    long = {**REQUIRED, "providerPhone": "not a number", "customPrompt": "x" * 9_000}
    async with connected(replica, **ADMIN) as client:
        answer = await client.post(BATCH, json={"requests": [long] * 100})
    assert answer.status_code == 200
    assert {result["success"] for result in answer.json()["results"]} == {False}


async def test_a_smaller_limit_of_the_operator_counts_here_too() -> None:
    replica = Replica(**CREDENTIALS, kestra_url="http://127.0.0.1:1", max_body_bytes=1000).start()
    try:
        assert await status_of(replica, SUBSCRIPTIONS, b" " * 1001, content_length=1001) == 413
    finally:
        replica.stop()
