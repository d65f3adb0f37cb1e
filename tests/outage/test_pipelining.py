"""Requests sent without waiting for answers: answered in order while they are few, and never kept beyond a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.memory import memory_of
from tests.support.raw_http import RawConnection, get, post
from tests.support.replica import Replica

SHORTEST = b"GET /health/live HTTP/1.1\r\n\r\n"
CHUNKED = b"POST /api/v1/vapi/webhook HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
MEGABYTE = 1_000_000
MAY_GROW_BYTES = 40 * MEGABYTE
"""Without a bound, 5 MB of the shortest requests took 600 MB."""


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    """One of its own: its memory is looked at."""
    replica = Replica(from_nothing=True, log_level="error").start()
    yield replica
    replica.stop()


async def pour(connection: RawConnection, unit: bytes, size: int) -> None:
    """Send so many bytes as long as the other side takes them, a while at most, and read nothing."""
    try:
        async with asyncio.timeout(3):
            for _ in range(size // (len(unit) * 1000) + 1):
                await connection.send(unit * 1000)
    except (TimeoutError, ConnectionError):
        pass


@pytest.mark.parametrize(
    "unit",
    [SHORTEST, post(b"{}"), CHUNKED, get(b"/health/live", b"X-Large: " + b"a" * 60_000)],
    ids=["shortest", "bodies", "chunks", "large heads"],
)
async def test_requests_that_are_poured_in_take_no_memory(replica: Replica, unit: bytes) -> None:
    before = memory_of(replica)
    async with await RawConnection.open(replica.port) as connection:
        await pour(connection, unit, 50 * MEGABYTE)
        assert memory_of(replica) - before < MAY_GROW_BYTES
        async with await RawConnection.open(replica.port) as other:
            await other.send(get(b"/health/live"))
            assert (await other.answer(within_s=60)).status == 200


@pytest.mark.parametrize(
    "opening",
    [SHORTEST * 9_000, CHUNKED + SHORTEST * 9_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000],
    ids=["shortest", "behind chunks", "half heads"],
)
async def test_many_connections_together_take_bounded_memory(replica: Replica, opening: bytes) -> None:
    """400 of them brought 24 to 100 MB, which were over 400 MB once parsed."""
    before = memory_of(replica)
    connections = [await RawConnection.open(replica.port) for _ in range(400)]
    try:
        for connection in connections:
            connection.write(opening)
        async with await RawConnection.open(replica.port) as other:
            for _ in range(20):
                await other.send(get(b"/health/live"))
                assert (await other.answer(within_s=60)).status == 200
        assert memory_of(replica) - before < 2 * MAY_GROW_BYTES
    finally:
        for connection in connections:
            connection.abort()


@pytest.mark.parametrize("request_", [get(b"/health/live"), post(b"{}"), CHUNKED], ids=["heads", "bodies", "chunks"])
async def test_forty_small_requests_in_one_piece_are_all_answered_in_order(replica: Replica, request_: bytes) -> None:
    def numbered(number: int) -> bytes:
        return request_.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nX-Request-ID: %d\r\n" % number, 1)

    async with await RawConnection.open(replica.port) as connection:
        await connection.send(b"".join(numbered(number) for number in range(40)))
        answers = [await connection.answer(within_s=60) for _ in range(40)]
    assert [answer.header("x-request-id") for answer in answers] == [str(number) for number in range(40)]


async def test_pipelined_requests_cut_anywhere_are_answered_in_order(replica: Replica) -> None:
    stream = b"".join(
        [get(b"/health/live", b"X-Request-ID: 1"), post(b'{"a":\r\n\r\n1}', b"X-Request-ID: 2"), CHUNKED, get(b"/", b"X-Request-ID: 4")]
    )  # fmt: skip
    for cut in range(1, len(stream)):
        async with await RawConnection.open(replica.port) as connection:
            await connection.send(stream[:cut])
            await asyncio.sleep(0.002)
            await connection.send(stream[cut:])
            answers = [await connection.answer(within_s=60) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 400, 400, 200], cut
        assert [answers[at].header("x-request-id") for at in (0, 1, 3)] == ["1", "2", "4"], cut


async def test_a_client_that_reads_no_answers_has_no_more_requests_begun(replica: Replica) -> None:
    before = memory_of(replica)
    async with await RawConnection.open(replica.port) as connection:
        await pour(connection, get(b"/"), 20 * MEGABYTE)
        assert memory_of(replica) - before < MAY_GROW_BYTES
        await connection.answer(within_s=60)
