"""Clients that ask and do not read: what they are sent is shared, and they are cut after 30 seconds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.memory import memory_of
from tests.support.raw_http import RawConnection, ask, get, post
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.service_api import connected, metric
from tests.support.vapi_sender import full_report, preliminary_report

CLIENTS = 60
TRANSCRIPT_BYTES = 9_000_000
MAY_GROW_BYTES = 250_000_000
"""A copy for each of them would be 540 MB."""

UNSHARED = 70
UNSHARED_MAY_GROW_BYTES = 450_000_000
"""256 MiB, and what is being read and written just then. Without a bound they hold 630 MB."""

CUT_WITHIN_S = 120.0
"""Far beyond the 30 s, of which a busy machine makes more."""


@pytest.fixture
def replica(redis_process: RedisProcess) -> Iterator[Replica]:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "untaken", "log_level": "error"}
    replica = Replica(**settings, from_nothing=True).start()
    yield replica
    replica.stop()


def connections_of(replica: Replica) -> int:
    """Open descriptors; the others stay the same but for a few."""
    return len(list(Path(f"/proc/{replica.pid}/fd").iterdir()))


def ask_without_reading(replica: Replica, target: bytes) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", replica.port))
    client.sendall(get(target))
    return client


async def test_a_large_record_is_held_once_for_all_who_do_not_read_it_and_they_are_cut(replica: Replica) -> None:
    report = full_report("untaken-1", artifact={"transcript": "x" * TRANSCRIPT_BYTES})
    webhook = post(json.dumps(report).encode())

    async def is_stored() -> bool:
        return (await ask(replica.port, webhook, within_s=60)).status == 200  # on a busy machine Redis may be too slow

    await eventually(is_stored, 60)
    before, connections_before = memory_of(replica), connections_of(replica)
    clients = []
    for number in range(CLIENTS):
        way = (b"", b"?wait=1", b"/events")[number % 3]
        clients.append(ask_without_reading(replica, b"/api/v1/vapi/calls/untaken-1" + way))
        await asyncio.sleep(0.05)
    try:
        assert memory_of(replica) - before < MAY_GROW_BYTES
        whole = await ask(replica.port, get(b"/api/v1/vapi/calls/untaken-1"), within_s=60)
        assert len(whole.body) > TRANSCRIPT_BYTES
        assert connections_of(replica) >= CLIENTS

        async def are_cut() -> bool:
            return connections_of(replica) <= connections_before + 5

        await eventually(are_cut, CUT_WITHIN_S)
    finally:
        for client in clients:
            client.close()


async def are_parked(replica: Replica, *, polls: int, streams: int) -> bool:
    async with connected(replica) as client:
        held = [await metric(client, name) for name in ("vapi_polls_waiting", "vapi_streams_open")]
    return held == [polls, streams]


async def test_whoever_waits_for_a_large_record_does_not_hold_what_it_has_so_far(replica: Replica) -> None:
    """Polls, streams, and streams of clients that know the record, all parked on a report without its analysis."""
    report = json.dumps(preliminary_report("waited-1", artifact={"transcript": "x" * TRANSCRIPT_BYTES})).encode()
    target = b"/api/v1/vapi/calls/waited-1"

    async def is_stored() -> bool:
        return (await ask(replica.port, post(report), within_s=60)).status == 200

    await eventually(is_stored, 60)
    etag = (await ask(replica.port, get(target), within_s=60)).header("etag")
    assert etag is not None
    before, clients = memory_of(replica), []
    known = b"Last-Event-ID: " + etag.encode()
    ways = get(target + b"?wait=25"), get(target + b"/events"), get(target + b"/events", known)
    for number in range(CLIENTS):
        clients.append(await RawConnection.open(replica.port))
        await clients[-1].send(ways[number % 3])
        await asyncio.sleep(0.05)  # apart, or they share a read
    try:
        await eventually(partial(are_parked, replica, polls=CLIENTS // 3, streams=CLIENTS - CLIENTS // 3))
        assert memory_of(replica) - before < MAY_GROW_BYTES
    finally:
        for client in clients:
            client.abort()


@pytest.mark.parametrize(
    "target", [b"/api/v1/vapi/calls/by-phone/+18645550177?limit=100", b"/api/v1/vapi/calls/unread-%d"]
)
async def test_different_large_answers_that_nobody_reads_take_bounded_memory(replica: Replica, target: bytes) -> None:
    """A page each time, or a record of each client's own."""
    results = {
        "analysis": {"structuredData": {"notes": "x" * TRANSCRIPT_BYTES}},
        "customer": {"number": "+18645550177"},
    }

    async def is_stored(number: int) -> bool:
        report = json.dumps(full_report(f"unread-{number}", **results)).encode()
        return (await ask(replica.port, post(report), within_s=60)).status == 200

    many = 1 if b"by-phone" in target else UNSHARED
    for number in range(many):
        await eventually(partial(is_stored, number), 60)
    before, clients = memory_of(replica), []
    try:
        for number in range(UNSHARED):
            clients.append(ask_without_reading(replica, target.replace(b"%d", b"%d" % number)))
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)  # the last ones are answered
        assert memory_of(replica) - before < UNSHARED_MAY_GROW_BYTES
    finally:
        for client in clients:
            client.close()

    async def is_served() -> bool:
        return (await ask(replica.port, get(target.replace(b"%d", b"0")), within_s=60)).status == 200

    await eventually(is_served, 60)
