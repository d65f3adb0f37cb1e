"""When a connection is cut whose client reads nothing of what waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from service.server.deadline import Deadline
from service.server.request_cycle import HeldFlow
from tests.support.eventually import eventually

UNTAKEN_S = 2.0
TURN_S = 0.05
TURNS = int(2 * UNTAKEN_S / TURN_S)


class Stream:
    """One end of a connection whose buffers are full, and what a stream adds to them."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.flow = HeldFlow(transport)

    def add(self, part: bytes) -> None:
        before = self.transport.get_write_buffer_size()
        self.transport.write(part)
        self.flow.streamed_bytes += self.transport.get_write_buffer_size() - before


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Stream, socket.socket]]:
    """Our end, with a deadline, and the client's."""
    ours, clients = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.set_write_buffer_limits(high=1 << 20)
    while not transport.get_write_buffer_size():
        transport.write(bytes(4096))
    stream = Stream(transport)
    deadline = Deadline(loop, transport, stream.flow, lambda: None, check_every_s=1.0, untaken_s=UNTAKEN_S)
    yield stream, clients
    deadline.cancel()
    transport.abort()
    clients.close()


async def test_heartbeats_that_nobody_reads_do_not_keep_a_connection(ends: tuple[Stream, socket.socket]) -> None:
    stream, _ = ends

    async def is_cut() -> bool:
        stream.add(b":\n\n")
        return stream.transport.is_closing()

    await eventually(is_cut)


async def test_a_client_that_reads_less_than_is_added_is_not_cut(ends: tuple[Stream, socket.socket]) -> None:
    stream, client = ends
    client.setblocking(False)
    for _ in range(TURNS):
        stream.add(bytes(100_000))
        await asyncio.sleep(TURN_S)
        client.recv(64_000)
    assert not stream.transport.is_closing()
