"""Strangers fill the memory for bodies that are not proven yet, and nobody who can prove himself notices."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.routes import WEBHOOK
from tests.support.service_api import (
    ADMIN,
    CREDENTIALS,
    PROOF,
    READER,
    SECRET,
    chunk,
    connected,
    new_call_id,
    request_head,
)
from tests.support.vapi_sender import full_report, sign

BODY_BYTES: Final = 8 * 1024 * 1024
"""Four of them fill the 32 MiB for bodies that are not proven."""

SIGNATURES: Final = {"X-Signature": lambda: {"X-Signature": "0" * 64, "X-Timestamp": str(int(time.time()))},
                     "X-Vapi-Signature": lambda: {"X-Vapi-Signature": "0" * 64}}  # fmt: skip

PIECE: Final = b" " * 65_536


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    replica = Replica(**CREDENTIALS, log_level="error", from_nothing=True).start()
    yield replica
    replica.stop()


class Stranger:
    """Sends an endless body without a proof, until its connection is closed."""

    def __init__(self, port: int, head: bytes, source: str) -> None:
        self._port, self._head, self._source = port, head, source
        self.sent_bytes = 0
        self.answers: list[bytes] = []

    async def send(self, size: int) -> None:
        """Connect, send that much, then say nothing more; comes back when it is thrown out."""
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
            try:
                writer.write(self._head)
                for _ in range(size // len(PIECE)):
                    writer.write(PIECE)
                    await writer.drain()
                    self.sent_bytes += len(PIECE)
                self.answers.append(await reader.readline())
                while await reader.read(65_536):
                    pass
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()


def head_of(path: str, headers: dict[str, str], length: int = BODY_BYTES + 1000) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {length}"]
    return "\r\n".join((*lines, *(f"{name}: {value}" for name, value in headers.items()), "", "")).encode()


@asynccontextmanager
async def flooded(
    replica: Replica, signature: str, *, senders: int = 12, size: int = BODY_BYTES, addresses: str = "sources"
) -> AsyncIterator[list[Stranger]]:
    """Strangers hold all there is and come back whenever they lose it; one address, many, or many behind a proxy."""
    strangers = []
    for number in range(senders):
        headers = SIGNATURES[signature]()
        if addresses == "forwarded":
            headers["X-Forwarded-For"] = f"203.0.113.{number % 250 + 1}"
        source = f"127.0.0.{number % 250 + 2}" if addresses == "sources" else "127.0.0.1"
        strangers.append(Stranger(replica.port, head_of(WEBHOOK, headers, size + 1000), source))
    tasks = [asyncio.create_task(stranger.send(size)) for stranger in strangers]

    async def all_is_full() -> bool:
        return any(stranger.answers for stranger in strangers)

    try:
        await eventually(all_is_full, within_s=30)
        yield strangers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def report_of(size: int) -> bytes:
    report = full_report(new_call_id())
    report["message"]["artifact"]["transcript"] = "AI: Hello.\nUser: Hi.\n" * (size // 21)
    return json.dumps(report).encode()


def proofs_of(body: bytes) -> dict[str, dict[str, str]]:
    return {
        "secret": PROOF,
        "bearer": {"Authorization": f"Bearer {SECRET}"},
        "hmac": sign(body, SECRET),
        "legacy": {"X-Vapi-Signature": hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()},
    }


@pytest.mark.parametrize("addresses", ["sources", "one", "forwarded"])
@pytest.mark.parametrize("signature", SIGNATURES)
async def test_who_can_prove_himself_gets_his_200_while_strangers_fill_it(
    replica: Replica, signature: str, addresses: str
) -> None:
    failed = []
    async with flooded(replica, signature, addresses=addresses), connected(replica) as client:
        for size in (1_000, 23_000, 500_000, 3_000_000):
            body = report_of(size)
            for mode, headers in proofs_of(body).items():
                answer = await client.post(WEBHOOK, content=body, headers=headers)
                if answer.status_code != 200:
                    failed.append((size, mode, answer.status_code, answer.text))
    assert failed == []


async def test_strangers_at_many_addresses_with_a_little_each_keep_no_report_out(replica: Replica) -> None:
    failed = []
    async with (
        flooded(replica, "X-Vapi-Signature", senders=600, size=65_536, addresses="forwarded") as strangers,
        connected(replica) as client,
    ):
        assert sum(stranger.sent_bytes for stranger in strangers) >= 32 * 1024 * 1024
        for size in (23_000, 500_000, 3_000_000):
            body = report_of(size)
            answer = await client.post(WEBHOOK, content=body, headers=sign(body, SECRET))
            failed += [(size, answer.status_code)] * (answer.status_code != 200)
    assert failed == []


async def test_who_gives_way_is_told_503_and_closed(replica: Replica) -> None:
    async with flooded(replica, "X-Signature") as strangers:

        async def one_was_closed() -> bool:
            return any(len(stranger.answers) > 1 for stranger in strangers)

        await eventually(one_was_closed, within_s=30)
    answers = {answer for stranger in strangers for answer in stranger.answers}
    assert answers == {b"HTTP/1.1 503 Service Unavailable\r\n"}


async def test_announced_bytes_that_never_come_take_no_room(replica: Replica) -> None:
    silent = []
    for _ in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        writer.write(head_of(WEBHOOK, SIGNATURES["X-Vapi-Signature"]()))
        silent.append((reader, writer))
    body = report_of(3_000_000)
    async with connected(replica) as client:
        assert (await client.post(WEBHOOK, content=body, headers=sign(body, SECRET))).status_code == 200
    assert not any(reader.at_eof() for reader, _ in silent)
    for _, writer in silent:
        writer.transport.abort()


@pytest.mark.parametrize("headers", [READER, ADMIN], ids=["reader", "admin"])
async def test_callers_with_a_token_take_no_room_from_webhooks(
    start_replica: Callable[..., Replica], headers: dict[str, str]
) -> None:
    replica = start_replica(**CREDENTIALS, kestra_url="http://127.0.0.1:1")
    path = "/api/v1/vapi/calls/x/subscriptions" if headers == READER else "/api/v1/vapi/calls/batch"
    size = 60_000 if headers == READER else 1_000_000
    held = []
    for _ in range(80 * 1024 * 1024 // size if headers == ADMIN else 400):
        _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        writer.write(head_of(path, headers, size + 1) + b" " * size)
        await writer.drain()
        held.append(writer)
    body = report_of(3_000_000)
    async with connected(replica) as client:
        for proof in proofs_of(body).values():
            assert (await client.post(WEBHOOK, content=body, headers=proof)).status_code == 200
        fresh = {"Authorization": headers["Authorization"], "X-Forwarded-For": "203.0.113.7"}
        assert (await client.post(path, json={}, headers=fresh)).status_code == 400
    for writer in held:
        writer.transport.abort()


REFUSED: Final = 25
REFUSED_BYTES: Final = 10 * 1024 * 1024
"""The default ``MAX_BODY_BYTES``: with one byte more, each is refused."""


async def test_a_refused_body_is_not_kept_while_the_rest_of_it_is_dropped(replica: Replica) -> None:
    before = resident_bytes(replica)
    refused = []
    for _ in range(REFUSED):
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        writer.write(request_head("POST", WEBHOOK, transfer_encoding="chunked", x_vapi_secret=SECRET))
        for _ in range(REFUSED_BYTES // len(PIECE)):
            writer.write(chunk(PIECE))
            await writer.drain()
        writer.write(chunk(b" "))
        assert (await reader.readline()).split()[1] == b"413"
        refused.append(writer)
    grown = resident_bytes(replica) - before
    for writer in refused:
        writer.transport.abort()
    assert grown < REFUSED * REFUSED_BYTES / 2


def resident_bytes(replica: Replica) -> int:
    pages = Path(f"/proc/{replica.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
