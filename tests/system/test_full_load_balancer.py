"""One address that opens all the connections it can to HAProxy does not keep other addresses from being served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import pytest

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.load_balancer import FakeReplica, LoadBalancer
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import open_client
from tests.support.vapi_sender import sample_bytes

BOUND = 20
MAX_FILES = 300
"""HAProxy takes half as many connections, less what it needs itself."""
ATTEMPTS = 200
STRANGER, NEIGHBOUR = "127.0.0.3", "127.0.0.2"

UNFINISHED = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: a",
    "a webhook without its body": f"POST {WEBHOOK} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx".encode(),
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED.keys())
async def test_an_address_that_holds_all_its_connections_leaves_room_for_others(sent: bytes) -> None:
    async with FakeReplica() as a, FakeReplica() as b:
        with balanced(a, b) as balancer, ExitStack() as stack:
            held = [stack.enter_context(open_unfinished(balancer.port, sent)) for _ in range(ATTEMPTS)]
            async with client_from(NEIGHBOUR, balancer) as client:
                answer = await client.post(WEBHOOK, content=sample_bytes("outbound-end-of-call-report-full"))
            assert answer.status_code == 200
            # HAProxy answers 408 when it gives up on a request. The neighbour did not have to wait for that.
            assert not [stranger for stranger in held if b"408" in what_came(stranger)]
            await eventually(lambda: sum(is_open(stranger) for stranger in held) == BOUND)


async def test_an_address_is_served_again_once_it_has_let_go() -> None:
    async with FakeReplica() as a, FakeReplica() as b:
        with balanced(a, b) as balancer:
            with ExitStack() as stack:
                for _ in range(ATTEMPTS):
                    stack.enter_context(open_unfinished(balancer.port, b""))

            async def is_served() -> bool:
                try:
                    async with client_from(STRANGER, balancer) as client:
                        return (await client.get(CALLS + "call-1")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(is_served)


@contextmanager
def balanced(a: FakeReplica, b: FakeReplica) -> Iterator[LoadBalancer]:
    balancer = LoadBalancer(a.port, b.port, max_files=MAX_FILES, MAX_CONNECTIONS_PER_ADDRESS=str(BOUND)).start()
    try:
        yield balancer
    finally:
        balancer.stop()


@contextmanager
def open_unfinished(port: int, sent: bytes) -> Iterator[socket.socket]:
    """A connection of the stranger. HAProxy may have closed it already."""
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind((STRANGER, 0))
        with suppress(ConnectionError):
            connection.connect(("127.0.0.1", port))
            connection.sendall(sent)
        connection.setblocking(False)
        yield connection


def what_came(connection: socket.socket) -> bytes:
    try:
        return connection.recv(100, socket.MSG_PEEK)
    except OSError:
        return b""


def is_open(connection: socket.socket) -> bool:
    """Whether the other side neither sent anything nor closed it."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def client_from(address: str, balancer: LoadBalancer) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(local_address=address, verify=False)
    return open_client(transport=transport, base_url=balancer.url)
