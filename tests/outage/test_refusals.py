"""What the protocol itself refuses: in the form of all our errors, in its turn, and the last on its connection."""

from __future__ import annotations

import asyncio
import json
import time

from service.headers import by_name
from tests.support.raw_http import RawAnswer, RawConnection, get, post
from tests.support.replica import Replica

PARKED = get(b"/api/v1/vapi/calls/nobody?wait=1")
CHUNKED_HEAD = (
    b"POST /api/v1/vapi/webhook HTTP/1.1\r\nHost: test\r\nX-Request-ID: ours\r\nTransfer-Encoding: chunked\r\n\r\n"
)

REFUSED = {
    "garbage": (400, b"\x16\x03\x01\x02\x00\x01"),
    "no target": (400, b"GET\r\n\r\n"),
    "version": (400, b"GET / HTTP/9.9\r\n\r\n"),
    "target": (400, get(b"http://[::1")),
    "port": (400, get(b"http://test:99999/")),
    "target without a slash": (400, get(b"a:b")),
    "CONNECT": (400, get(b"test:443").replace(b"GET", b"CONNECT", 1)),
    "header": (400, get(b"/", b"Bad Header: 1")),
    "line feeds": (400, b"GET / HTTP/1.1\n\n"),
    "length": (400, get(b"/", b"Content-Length: x")),
    "chunk": (400, CHUNKED_HEAD + b"zz\r\n"),
    "small chunks": (400, CHUNKED_HEAD + b"1\r\na\r\n" * 40_000),
    "chunk extensions": (400, CHUNKED_HEAD + b"1" + b";a" * 300_000),
    "trailers": (400, CHUNKED_HEAD + b"0\r\n" + b"a: b\r\n" * 40_000),
    "large head": (431, get(b"/", b"X-Large: " + b"a" * 70_000)),
    "large target": (431, get(b"/" + b"a" * 70_000)),
    "many headers": (431, get(b"/", *(b"X-%d: a" % number for number in range(257)))),
    "one header many times": (431, get(b"/", *(b"a: b" for _ in range(50_000)))),
    "line breaks": (431, b"\r\n" * 40_000),
}


def assert_refused(answer: RawAnswer, status: int, name: str) -> None:
    assert answer.status == status, name
    assert answer.json().keys() == {"success", "error"}, name
    assert answer.json()["success"] is False, name
    assert answer.header("content-type") == "application/json", name
    assert answer.header("x-request-id"), name
    assert answer.header("cache-control") == "no-store", name
    assert answer.header("connection") == "close", name


async def assert_all_refused(port: int, *answers_before: int, behind: bytes = b"") -> None:
    """All at once: each is closed only some time after its answer."""

    async def assert_one_refused(name: str, status: int, request: bytes) -> None:
        async with await RawConnection.open(port) as connection:
            await connection.send(behind + request)
            for expected in answers_before:
                assert (await connection.answer()).status == expected, name
            assert_refused(await connection.answer(), status, name)
            assert await connection.is_closed(), name

    async with asyncio.TaskGroup() as group:
        for name, (status, request) in REFUSED.items():
            group.create_task(assert_one_refused(name, status, request), name=name)


async def test_what_is_no_request_is_refused_in_the_form_of_all_errors(attacked: Replica) -> None:
    await assert_all_refused(attacked.port)


async def test_a_refusal_behind_a_parked_poll_comes_after_the_polls_answer(attacked: Replica) -> None:
    await assert_all_refused(attacked.port, 202, behind=PARKED)


async def test_the_callers_request_id_comes_back_with_a_refusal(attacked: Replica) -> None:
    for request in (get(b"http://[::1", b"X-Request-ID: ours"), CHUNKED_HEAD + b"zz\r\n"):
        async with await RawConnection.open(attacked.port) as connection:
            await connection.send(request)
            assert (await connection.answer(within_s=60)).header("x-request-id") == "ours"


async def test_256_headers_are_served_and_one_more_is_not(attacked: Replica) -> None:
    for count, status in ((255, 200), (256, 431)):  # and Host
        async with await RawConnection.open(attacked.port) as connection:
            await connection.send(get(b"/health/live", *(b"a: b" for _ in range(count))))
            assert (await connection.answer(within_s=60)).status == status


async def test_a_broken_body_leaves_nothing_of_its_webhook(attacked: Replica) -> None:
    body = json.dumps({"message": {"type": "hang", "call": {"id": "broken-1"}}}).encode()
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(CHUNKED_HEAD + b"%x\r\n%b\r\nzz\r\n" % (len(body), body))
        assert (await connection.answer(within_s=60)).status == 400
    async with await RawConnection.open(attacked.port) as connection:
        await connection.send(get(b"/api/v1/vapi/calls/broken-1") + post(b"no json"))
        assert [(await connection.answer(within_s=60)).status for _ in range(2)] == [404, 400]


def test_a_name_that_comes_many_times_costs_no_more_than_as_many_names() -> None:
    same = [(b"a", b"b")] * 60_000
    started = time.process_time()
    assert by_name([*same, (b"c", b"d")]) == {b"a": b", ".join([b"b"] * 60_000), b"c": b"d"}
    assert by_name([(b"%d" % at, b"x") for at in range(30_000)] * 2)[b"7"] == b"x, x"
    assert time.process_time() - started < 10  # looked up name by name, it took minutes
