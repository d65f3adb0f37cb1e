"""How these tests talk to a replica: deliveries, records, bounded polls of what is to come, raw connections."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS, WEBHOOK
from tests.support.traffic import get_stats, get_when_served, metrics_of

SECRET: Final = "a-webhook-secret"
READ_TOKEN: Final = "a-read-token"
ADMIN_TOKEN: Final = "an-admin-token"
PROOF: Final = {"X-Vapi-Secret": SECRET}
READER: Final = {"Authorization": f"Bearer {READ_TOKEN}"}
ADMIN: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CREDENTIALS: Final = {
    "VAPI_WEBHOOK_SECRET": SECRET,
    "API_READ_TOKENS": READ_TOKEN,
    "API_ADMIN_TOKENS": ADMIN_TOKEN,
}

AT_ONCE_S: Final = 20.0
"""Less than a poll may wait; a busy machine does not need as long."""

_numbers = itertools.count(1)


def new_address() -> str:
    """A client address that no other test fails from; loopback is a trusted proxy, so X-Forwarded-For is believed."""
    number = next(_numbers)
    return f"10.1.{number // 250}.{number % 250 + 1}"


def new_call_id() -> str:
    """A call that no other test of the session speaks of."""
    return f"api-{next(_numbers)}"


@asynccontextmanager
async def connected(replica: Replica, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    # Without TLS: loading the certificates would take longer than most of these tests.
    async with httpx2.AsyncClient(
        base_url=replica.url, headers=headers, timeout=PATIENCE_S, trust_env=False, verify=False
    ) as client:
        yield client


async def deliver(client: httpx2.AsyncClient, *bodies: dict[str, Any], **headers: str) -> None:
    """Post server messages, one after the other; each must be acknowledged."""
    for body in bodies:
        answer = await client.post(WEBHOOK, json=body, headers=headers)
        assert answer.status_code == 200, answer.text


async def record_of(client: httpx2.AsyncClient, call_id: str, **query: str) -> dict[str, Any]:
    """``data`` of a plain poll that must find the record."""
    answer = await client.get(CALLS + call_id, params=query)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()["data"]
    return record


async def poll_at_once(
    client: httpx2.AsyncClient, call_id: str, headers: dict[str, str] | None = None, **query: str
) -> httpx2.Response:
    """The answer to a long poll that must not wait: one that waited would not be there in time."""
    async with asyncio.timeout(AT_ONCE_S):
        return await client.get(CALLS + call_id, params={"wait": "25", **query}, headers=headers)


async def list_calls(client: httpx2.AsyncClient, phone: str, params: dict[str, str] | None = None) -> httpx2.Response:
    return await get_when_served(client, BY_PHONE + phone, params)


async def metric(client: httpx2.AsyncClient, sample: str, **headers: str) -> float:
    """The value of one line of ``/metrics``; 0 when the line is not there yet."""
    return (await metrics_of(client, **headers)).get(sample, 0.0)


async def metrics_reach(client: httpx2.AsyncClient, expected: Mapping[str, float]) -> None:
    """Return when these lines have these values; gauges may lag by some seconds."""

    async def do_reach() -> bool:
        metrics = await metrics_of(client)
        return all(metrics.get(sample) == value for sample, value in expected.items())

    await eventually(do_reach)


async def stats_of(client: httpx2.AsyncClient, limit: int = 20) -> dict[str, Any]:
    return await get_stats(client, limit=str(limit))


async def counted(client: httpx2.AsyncClient, expected: dict[str, dict[str, Any]]) -> None:
    """Return when these counts stand in the stats; they may lag by a second."""

    async def stand() -> bool:
        stats = await stats_of(client)
        return all(stats[group].get(name) == value for group in expected for name, value in expected[group].items())

    await eventually(stand)


async def polls_parked(client: httpx2.AsyncClient, count: int) -> None:
    """Return when exactly this many polls are parked."""
    await metrics_reach(client, {"vapi_polls_waiting": count})


async def subscribe_execution(
    client: httpx2.AsyncClient, call_id: str, execution_id: str, **more: Any
) -> httpx2.Response:
    body = {"kind": "kestra_resume", "execution_id": execution_id, **more}
    return await client.post(f"{CALLS}{call_id}/subscriptions", json=body)


async def subscribe_callback(client: httpx2.AsyncClient, call_id: str, url: Any) -> httpx2.Response:
    return await client.post(f"{CALLS}{call_id}/subscriptions", json={"kind": "callback", "url": url})


@asynccontextmanager
async def parked_poll(
    client: httpx2.AsyncClient, call_id: str, *, wait: str = "15", headers: dict[str, str] | None = None
) -> AsyncIterator[asyncio.Task[httpx2.Response]]:
    """A long poll, the replica's only one, that is parked when the block begins; given up at its end if still open."""
    await polls_parked(client, 0)
    poll = asyncio.ensure_future(client.get(CALLS + call_id, params={"wait": wait}, headers=headers))
    try:
        await polls_parked(client, 1)
        yield poll
    finally:
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)


class RawAnswer:
    """One answer as it came over the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_answer(reader: asyncio.StreamReader) -> RawAnswer:
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        length = RawAnswer(head, b"").headers.get("content-length", "0")
        return RawAnswer(head, await reader.readexactly(int(length)))


@asynccontextmanager
async def raw_connection(replica: Replica) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request_head(method: str, path: str, **headers: object) -> bytes:
    """The head of a request; underscores in header names stand for hyphens."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)
