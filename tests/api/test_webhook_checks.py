"""The order of a webhook's checks: 415, then 401 before the body, then 413, then 401, then 400; and what streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest

from tests.support.eventually import PATIENCE_S
from tests.support.replica import Replica
from tests.support.routes import WEBHOOK
from tests.support.service_api import (
    CREDENTIALS,
    PROOF,
    RawAnswer,
    chunk,
    connected,
    new_address,
    raw_connection,
    read_answer,
    request_head,
)
from tests.support.vapi_sender import status_update

MAX_BODY_BYTES: Final = 2000

BODY_DEADLINE_S: Final = 30.0
"""Whoever stops sending a body that was not refused is cut off after that."""

TOO_MANY: Final = MAX_BODY_BYTES + 1
UNREAD: Final = 100
"""Announced, but never sent: an answer came before the body was read."""

SECRET = {"x_vapi_secret": "a-webhook-secret"}
SIGNATURE = {"x_vapi_signature": "0" * 64}


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    """Closed, and takes small bodies only."""
    replica = Replica(max_body_bytes=MAX_BODY_BYTES, **CREDENTIALS).start()
    yield replica
    replica.stop()


async def answer_to(replica: Replica, proof: Mapping[str, str], sent: bytes = b"", **headers: object) -> RawAnswer:
    """The answer to a head and whatever of the body is sent."""
    async with raw_connection(replica) as (reader, writer):
        writer.write(request_head("POST", WEBHOOK, x_forwarded_for=new_address(), **proof, **headers) + sent)
        return await read_answer(reader)


def padded(size: int) -> bytes:
    """A status update of exactly this many bytes."""
    body = json.dumps(status_update("queued", "padded")).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity", ""])
@pytest.mark.parametrize("proof", [{}, SECRET, {"x_vapi_secret": "wrong"}, SIGNATURE])
async def test_an_encoded_body_is_415_before_anything_else(
    replica: Replica, encoding: str, proof: dict[str, str]
) -> None:
    answer = await answer_to(replica, proof, content_encoding=encoding, content_length=TOO_MANY)
    assert (answer.status, answer.json["success"]) == (415, False)


@pytest.mark.parametrize(
    "proof",
    [
        {},
        {"x_vapi_secret": "wrong"},
        {"x_vapi_secret": ""},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer an-admin-token"},
        {"x_vapi_secret": "wrong", "authorization": "Bearer wrong"},
        {"x_signature": "0" * 64},
        {"x_signature": "0" * 64, "x_timestamp": "1788264000"},
        {"x_signature": "00", "x_timestamp": "9999999999"},
        {"x_vapi_signature": "0" * 63},
        {"x_vapi_signature": "a-webhook-secre"},
    ],
)
@pytest.mark.parametrize("length", [UNREAD, TOO_MANY])
async def test_no_proof_that_could_fit_is_401_before_the_body_is_read(
    replica: Replica, proof: dict[str, str], length: int
) -> None:
    answer = await answer_to(replica, proof, content_length=length)
    assert (answer.status, answer.json) == (401, {"success": False, "error": "Invalid webhook signature"})


def fresh_signature() -> dict[str, str]:
    return {"x_signature": "0" * 64, "x_timestamp": str(int(time.time()))}


async def test_a_body_announced_too_large_is_413_before_it_is_read(replica: Replica) -> None:
    for proof in (SECRET, SIGNATURE, {**fresh_signature(), "x_vapi_secret": "wrong"}):
        answer = await answer_to(replica, proof, content_length=TOO_MANY)
        assert (answer.status, answer.json["success"]) == (413, False)


@pytest.mark.parametrize("proof", [SECRET, SIGNATURE])
async def test_a_chunked_body_is_413_as_soon_as_it_is_too_large(replica: Replica, proof: dict[str, str]) -> None:
    answer = await answer_to(replica, proof, chunk(b" " * TOO_MANY), transfer_encoding="chunked")
    assert answer.status == 413


async def test_a_wrong_signature_is_401_before_its_body_is_looked_at(replica: Replica) -> None:
    answer = await answer_to(replica, SIGNATURE, b"not json", content_length=8)
    assert answer.status == 401


async def test_a_proven_body_that_is_no_message_is_400(replica: Replica) -> None:
    assert (await answer_to(replica, SECRET, b"not json", content_length=8)).status == 400


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (TOO_MANY, 413)])
async def test_the_limit_itself_is_taken_and_one_byte_more_is_not(replica: Replica, size: int, status: int) -> None:
    assert (await answer_to(replica, SECRET, padded(size), content_length=size)).status == status


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (TOO_MANY, 413)])
async def test_the_limit_holds_for_chunks_too(replica: Replica, size: int, status: int) -> None:
    body = padded(size)
    sent = b"".join(chunk(body[i : i + 300]) for i in range(0, size, 300)) + b"0\r\n\r\n"
    assert (await answer_to(replica, SECRET, sent, transfer_encoding="chunked")).status == status


async def test_who_sends_too_much_gets_to_read_the_answer(replica: Replica) -> None:
    async with connected(replica, **PROOF) as client:
        assert (await client.post(WEBHOOK, content=b" " * (2 * MAX_BODY_BYTES))).status_code == 413


async def test_who_goes_on_sending_is_cut_off(replica: Replica) -> None:
    async with raw_connection(replica) as (_, writer), asyncio.timeout(PATIENCE_S):
        writer.write(request_head("POST", WEBHOOK, transfer_encoding="chunked", **SECRET))
        with pytest.raises(ConnectionError):
            while True:
                writer.write(chunk(b" " * MAX_BODY_BYTES))
                await writer.drain()
                await asyncio.sleep(0)


async def test_who_stops_sending_what_was_refused_is_cut_off(replica: Replica) -> None:
    async with raw_connection(replica) as (reader, writer), asyncio.timeout(BODY_DEADLINE_S):
        writer.write(request_head("POST", WEBHOOK, content_length=10**9, **SECRET) + b" ")
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await reader.read() == b""


async def test_a_connection_serves_on_after_a_refusal(replica: Replica) -> None:
    body = padded(200)
    async with raw_connection(replica) as (reader, writer):
        for proof, status in (({"x_vapi_secret": "wrong"}, 401), (SECRET, 200), (SIGNATURE, 401), (SECRET, 200)):
            writer.write(request_head("POST", WEBHOOK, content_length=len(body), **proof) + body)
            assert (await read_answer(reader)).status == status


async def test_bodies_in_flight_beyond_what_a_worker_may_hold_are_503(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    size = 10_000_000
    async with raw_connection(replica) as (reader, writer):
        held = []
        for _ in range(6):
            held.append(await asyncio.open_connection("127.0.0.1", replica.port))
            held[-1][1].write(request_head("POST", WEBHOOK, content_length=size) + b" " * (size - 1))
            await held[-1][1].drain()
        writer.write(request_head("POST", WEBHOOK, content_length=size) + b" " * (size - 1))
        answers = [asyncio.ensure_future(read_answer(stream)) for stream in (reader, *(one for one, _ in held))]
        refused, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert [(answer.result().status, answer.result().headers["retry-after"]) for answer in refused] == [(503, "1")]
        for answer in waiting:
            answer.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for _, stream in held:
            stream.transport.abort()
