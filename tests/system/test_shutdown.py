"""Going away without anybody noticing: parked polls answered, the socket open for a while, requests finished."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable

import httpx2
import pytest

from tests.outage.raw_http import RawConnection, get, post
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.vapi_sender import full_report
from tests.system.traffic import get_call, open_client, post_webhook, until, until_parked

Start = Callable[..., Replica]
DRAIN_S = 1.2


@pytest.fixture
def replica(start_replica: Start, redis_process: RedisProcess) -> Replica:
    return start_replica(redis_url=redis_process.url, redis_key_prefix="shutdown", drain_s=DRAIN_S)


async def wait_for_end(replica: Replica) -> int:
    return await asyncio.to_thread(replica.wait)


async def test_parked_polls_are_answered_202_within_a_second(client: httpx2.AsyncClient, replica: Replica) -> None:
    polls = [asyncio.create_task(get_call(client, replica, f"unheard-{n}", wait="20")) for n in range(50)]
    await until_parked(client, replica, 50)
    replica.terminate()
    async with asyncio.timeout(1):
        answers = await asyncio.gather(*polls)
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.headers["connection"] for answer in answers} == {"close"}


async def test_while_it_drains_it_is_not_ready_but_serves_and_asks_to_close(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    replica.terminate()
    ended = asyncio.create_task(wait_for_end(replica))
    started = time.monotonic()

    async def is_not_ready() -> bool:
        return (await client.get(replica.url + "/health/ready")).status_code == 503

    await until(is_not_ready, within_s=1)
    served = 0
    while time.monotonic() - started < DRAIN_S - 0.4:
        async with open_client() as newcomer:
            answer = await post_webhook(newcomer, replica, full_report(f"draining-{served}"))
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        served += 1
        await asyncio.sleep(0.05)
    assert (await client.get(replica.url + "/health/live")).status_code == 200
    await ended
    assert served > 2
    assert DRAIN_S - 0.2 < time.monotonic() - started < 10


async def test_a_poll_that_comes_while_it_drains_is_answered_at_once(
    client: httpx2.AsyncClient, replica: Replica
) -> None:
    replica.terminate()
    await asyncio.sleep(0.2)
    async with asyncio.timeout(1):
        assert (await get_call(client, replica, "unheard-1", wait="20")).status_code == 202


async def test_a_request_in_flight_is_finished(replica: Replica) -> None:
    request = post(json.dumps(full_report("in-flight-1")).encode())
    async with await RawConnection.open(replica.port) as connection:
        await connection.send(request[:-20])
        replica.terminate()
        await asyncio.sleep(DRAIN_S + 0.5)
        await connection.send(request[-20:])
        answer = await connection.answer()
        assert answer.status == 200
        assert answer.header("connection") == "close"
        assert await connection.is_closed()
    await wait_for_end(replica)


async def test_idle_connections_do_not_hold_it_up(replica: Replica) -> None:
    connections = [await RawConnection.open(replica.port) for _ in range(20)]
    await connections[0].send(get(b"/health/live"))
    await connections[0].answer()
    started = time.monotonic()
    replica.terminate()
    await wait_for_end(replica)
    for connection in connections:
        connection.abort()
    assert time.monotonic() - started < DRAIN_S + 2


async def test_a_request_that_never_ends_does_not_keep_it_for_10_seconds(replica: Replica) -> None:
    async with await RawConnection.open(replica.port) as connection:
        await connection.send(post(b"{}", b"X: 1")[:-1])
        started = time.monotonic()
        replica.terminate()
        await wait_for_end(replica)
    assert time.monotonic() - started < 10


def test_sigterm_ends_in_exit_status_0(start_replica: Start) -> None:
    replica = start_replica()
    replica.terminate()
    assert replica.wait() == 0


def test_sigint_ends_promptly_whatever_the_drain_time(start_replica: Start) -> None:
    replica = start_replica(drain_s=8)
    started = time.monotonic()
    os.kill(replica.pid, signal.SIGINT)
    assert replica.wait() in (0, 130)
    assert time.monotonic() - started < 4
    assert "Traceback" not in replica.log
