"""Bodies that are too large, too deep or no JSON: refused within bounds, with an answer that arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import uuid

import httpx2
import pytest

from tests.support.raw_http import ANSWER_S, RawConnection, ask, get, post
from tests.support.replica import Replica
from tests.support.vapi_sender import SAMPLE_CALL_ID, SAMPLES, full_report, sample, status_update

MAX_BODY_BYTES = 2_000_000
GIGABYTE_HEAD = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n"
CHUNKED_HEAD = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"a" * 65_536 + b"\r\n"


async def test_an_endless_chunked_body_is_413_and_its_connection_closes(attacked: Replica) -> None:
    sent, head = await asyncio.to_thread(send_without_end, attacked.port)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in head
    assert sent * 65_536 < 10 * MAX_BODY_BYTES


def send_without_end(port: int) -> tuple[int, bytes]:
    """How many chunks went out until the connection was closed, and the answer, which is read only then."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        connection.sendall(CHUNKED_HEAD)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1000:
                connection.sendall(CHUNK)
                sent += 1
        return sent, connection.recv(65_536)


async def test_a_chunked_body_that_pauses_beyond_the_limit_is_answered_at_once(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(CHUNKED_HEAD + CHUNK * 31)
        assert (await connection.answer(within_s=20)).status == 413


async def test_a_chunked_body_within_the_limit_is_taken(attacked: Replica) -> None:
    body = json.dumps(status_update("ringing", "chunked-1")).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert (await ask(attacked.port, CHUNKED_HEAD + chunks)).status == 200


@pytest.mark.parametrize("trailer", [b"X-Trailer: " + b"a" * 8_000 + b"\r\n", b"a" * 8_000], ids=["many", "one"])
async def test_trailers_without_an_end_are_cut(attacked: Replica, trailer: bytes) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(CHUNKED_HEAD + b"2\r\n{}\r\n0\r\nX-First: ")
        assert await connection.send_until_refused(trailer, 4000) < 2000


async def test_a_trailer_is_passed_over(attacked: Replica) -> None:
    body = json.dumps(status_update("ringing", "trailed-1")).encode()
    trailed = b"%x\r\n%b\r\n0\r\nX-Checksum: 1\r\n\r\n" % (len(body), body)
    assert (await ask(attacked.port, CHUNKED_HEAD + trailed)).status == 200


async def test_many_trailers_do_not_count_as_the_next_head(attacked: Replica) -> None:
    body = json.dumps(status_update("ringing", "trailed-2")).encode()
    trailed = CHUNKED_HEAD + b"%x\r\n%b\r\n0\r\n" % (len(body), body) + b"a: b\r\n" * 257 + b"\r\n"
    async with await RawConnection.open(attacked.port) as connection:
        for request in (trailed, trailed, get(b"/health")):
            await connection.send(request)
            assert (await connection.answer()).status == 200


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**9, 2**63, 10**15])
async def test_an_announced_length_over_the_limit_is_refused_before_the_body(attacked: Replica, length: int) -> None:
    head = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % length
    answer = await ask(attacked.port, head)
    assert answer.status == 413
    assert answer.header("connection") == "close"


async def test_a_client_that_waits_for_100_continue_is_refused_without_sending_its_body(attacked: Replica) -> None:
    answer = await ask(attacked.port, GIGABYTE_HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")
    assert answer.status == 413


async def test_a_sender_of_a_gigabyte_reads_the_413_and_is_cut_after_as_much_again(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        answering = asyncio.create_task(connection.answer())
        await connection.send(GIGABYTE_HEAD)
        sent = await connection.send_until_refused(b"a" * 65_536, 15_000)
        assert (await answering).status == 413
        assert sent * 65_536 < 20 * MAX_BODY_BYTES


DEEP = 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b'{"a":' * (DEEP // 4),
        b"[" * (DEEP // 2) + b"]" * (DEEP // 2),
        b'{"message":{"type":"hang","call":{"id":"deep-1"},"odd":' + b"[" * 500_000 + b"]" * 500_000 + b"}}",
        b'{"message":{"type":"hang","call":{"id":"deep-1"},"odd":' + b'{"a":[' * 200_000 + b"]}" * 200_000 + b"}}",
        b'{"message":{"type":"hang","call":' + b'{"call":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
        b'{"message":{"type":"status-update","status":"ended","call":{"id":"deep-1"},"timestamp":NaN}}',
        b'{"message":{"type":"status-update","status":"ended","call":{"id":"deep-1"},"cost":-Infinity}}',
        b'{"message":{"type":"hang","call":{"id":"deep-1"}}}{}',
        b'{"message":{"type":"hang","call":{"id":"deep-1"}}',
        b'\xef\xbb\xbf{"message":{"type":"hang","call":{"id":"deep-1"}}}',
        b'{"message":{"type":"hang","call":{"id":"deep-1"},"text":"\xff\xfe"}}',
        b'"' + b"a" * 1_900_000,
        b'{"message":{"type":"' + b"\\" * 1_900_000,
        b"\x00" * 100_000,
        b"",
        b"null",
        b"[]",
        b'{"message":[]}',
        b'{"message":{"type":1}}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
async def test_a_body_that_is_no_message_is_400_and_leaves_nothing(
    attacked: Replica, client: httpx2.AsyncClient, body: bytes
) -> None:
    answer = await ask(attacked.port, post(body))
    assert answer.status == 400
    assert answer.json()["success"] is False
    assert (await client.get("/api/v1/vapi/calls/deep-1")).status_code == 404


async def test_a_message_nested_128_levels_is_kept(client: httpx2.AsyncClient) -> None:
    levels = 124  # beneath the envelope, the message and its artifact
    odd: object = 1
    for _ in range(levels):
        odd = [odd]
    report = full_report("nested-1", artifact={"messages": odd, "transcript": "AI: Hello.\n"})
    await client.post("/api/v1/vapi/webhook", json=report)
    record = (await client.get("/api/v1/vapi/calls/nested-1")).json()["data"]
    assert record["messages"] == odd


async def test_a_duplicate_key_is_read_once(client: httpx2.AsyncClient) -> None:
    body = b'{"message":{"type":"status-update","status":"queued","status":"ringing","call":{"id":"twice-1"}}}'
    assert (await client.post("/api/v1/vapi/webhook", content=body)).status_code == 200
    assert (await client.get("/api/v1/vapi/calls/twice-1")).json()["data"]["status"] in ("queued", "ringing")


def report_of(size: int) -> bytes:
    """An end-of-call report of about that many bytes."""
    make = [sys.executable, str(SAMPLES / "make_large_report.py"), str(size)]
    return subprocess.run(make, check=True, capture_output=True).stdout


async def test_a_report_of_a_megabyte_and_a_half_is_read_back_whole(client: httpx2.AsyncClient) -> None:
    body = report_of(1_500_000)
    call_id = f"large-{uuid.uuid4()}"
    body = body.replace(SAMPLE_CALL_ID.encode(), call_id.encode())
    assert len(body) >= 1_500_000
    assert (await client.post("/api/v1/vapi/webhook", content=body)).status_code == 200
    record = (await client.get(f"/api/v1/vapi/calls/{call_id}")).json()["data"]
    artifact = json.loads(body)["message"]["artifact"]
    assert record["data_status"] == "complete"
    assert record["messages"] == artifact["messages"]
    assert record["transcript"] == {"text": artifact["transcript"]}


async def test_pipelined_requests_are_answered_in_order(attacked: Replica) -> None:
    requests = [
        post(json.dumps(sample("outbound-status-update-ringing", "pipelined-1")).encode()),
        get(b"/api/v1/vapi/calls/pipelined-1"),
        get(b"/api/v1/vapi/calls/pipelined-1?wait=0.3"),
        post(b"no json"),
        get(b"/health/live", b"X-Request-ID: the-last"),
    ]
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(b"".join(requests))
        answers = [await connection.answer() for _ in requests]
    assert [answer.status for answer in answers] == [200, 200, 202, 400, 200]
    assert answers[-1].header("x-request-id") == "the-last"


async def test_a_thousand_pipelined_requests_are_all_answered(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        sending = asyncio.create_task(connection.send(get(b"/health/live") * 1000))
        answers = [await connection.answer() for _ in range(1000)]
        await sending
    assert {answer.status for answer in answers} == {200}


async def test_what_is_smuggled_in_a_body_is_not_taken_for_a_request(attacked: Replica) -> None:
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(post(get(b"/api/v1/vapi/cache/stats")))
        assert (await connection.answer()).status == 400
        await connection.send(get(b"/health/live", b"X-Request-ID: after"))
        assert (await connection.answer()).header("x-request-id") == "after"
