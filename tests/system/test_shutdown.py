"""Going away without anybody noticing: parked polls answered, the socket open for a while, requests finished."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx2
import pytest

from service.load_config import load_settings
from service.server.serve import GRACEFUL_S
from tests.support.access_log import LONGEST_ANSWER_S, answers_of, events_in, moment_of, slowest_s
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.raw_http import RawConnection, get, post
from tests.support.redis_server import RedisProcess
from tests.support.replica import CANCELS, Replica
from tests.support.routes import CALLS
from tests.support.traffic import ask_until_served, get_call, get_when_served, post_webhook, until_parked, until_ready
from tests.support.vapi_sender import full_report

Start = Callable[..., Replica]
DRAIN_S = 1.0
"""For tests that wait for its end."""

LONG_DRAIN_S = 60.0
"""What happens long before its end did not wait for it; such a replica is killed."""


@pytest.fixture
def replica(start_replica: Start, redis_process: RedisProcess) -> Replica:
    return start_replica(redis_url=redis_process.url, redis_key_prefix="shutdown-soon", drain_s=DRAIN_S)


@pytest.fixture
def slow_to_go(start_replica: Start, redis_process: RedisProcess) -> Iterator[Replica]:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": "shutdown", "drain_s": LONG_DRAIN_S}
    replica = start_replica(**settings, from_nothing=True)
    yield replica
    replica.kill()


async def wait_for_end(replica: Replica) -> int:
    return await asyncio.to_thread(replica.wait)


async def test_parked_polls_are_answered_202_at_once(client: httpx2.AsyncClient, slow_to_go: Replica) -> None:
    polls = [asyncio.create_task(get_call(client, slow_to_go, f"unheard-{n}", wait="25")) for n in range(50)]
    await until_parked(client, slow_to_go, 50)
    slow_to_go.terminate()
    answers = await asyncio.gather(*polls)
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    lines = await answers_of(slow_to_go, 50, lambda answer: "wait_s" in answer)
    (draining,) = [event for event in events_in(slow_to_go.log) if event["event"] == "service.draining"]
    assert max(map(moment_of, lines)) - moment_of(draining) < LONGEST_ANSWER_S


async def test_while_it_drains_it_is_not_ready_but_serves_and_asks_to_close(
    client: httpx2.AsyncClient, slow_to_go: Replica
) -> None:
    slow_to_go.terminate()
    await until_ready(client, slow_to_go, 503)
    for number in range(3):
        post_one = partial(post_webhook, client, slow_to_go, full_report(f"draining-{number}"))
        answer = await ask_until_served(post_one)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
    assert (await client.get(slow_to_go.url + "/health/live")).status_code == 200


async def test_it_drains_as_long_as_it_was_told(replica: Replica) -> None:
    began_at = time.monotonic()
    replica.terminate()
    assert await wait_for_end(replica) == 0
    assert time.monotonic() - began_at > DRAIN_S - 0.2


async def test_a_poll_that_comes_while_it_drains_is_answered_at_once(
    client: httpx2.AsyncClient, slow_to_go: Replica
) -> None:
    slow_to_go.terminate()
    await until_ready(client, slow_to_go, 503)
    answer = await get_when_served(client, f"{slow_to_go.url}{CALLS}unheard-1", {"wait": "25"})
    assert answer.status_code == 202
    assert slowest_s(await answers_of(slow_to_go, 1, lambda answer: "wait_s" in answer)) < LONGEST_ANSWER_S


async def takes_no_more(replica: Replica) -> bool:
    """Whether the drain is over: nobody listens any more."""
    try:
        (await RawConnection.open(replica.port)).abort()
    except ConnectionError:
        return True
    return False


async def test_a_request_in_flight_is_finished(replica: Replica) -> None:
    request = post(json.dumps(full_report("in-flight-1")).encode())
    async with await RawConnection.open(replica.port) as connection:
        await connection.send(request[:-20])
        replica.terminate()
        await eventually(lambda: takes_no_more(replica))
        await connection.send(request[-20:])
        answer = await connection.answer()
        assert answer.status in (200, 503), "a busy machine's Redis may be late"
        assert answer.header("connection") == "close"
        assert await connection.is_closed()
    await wait_for_end(replica)


async def test_idle_connections_do_not_hold_it_up(replica: Replica) -> None:
    connections = [await RawConnection.open(replica.port) for _ in range(20)]
    await connections[0].send(get(b"/health/live"))
    await connections[0].answer()
    replica.terminate()
    assert await wait_for_end(replica) == 0
    for connection in connections:
        connection.abort()
    assert CANCELS not in replica.log


async def test_a_request_that_never_ends_is_cancelled(replica: Replica) -> None:
    """Before the body's own deadline of 30 s. That both times together fit into 10 s is arithmetic."""
    async with await RawConnection.open(replica.port) as connection:
        await connection.send(post(b"{}", b"X: 1")[:-1])
        replica.terminate()
        await wait_for_end(replica)
    assert CANCELS in replica.log
    assert load_settings({}).drain_s + GRACEFUL_S < 10


def test_sigterm_ends_in_exit_status_0(start_replica: Start) -> None:
    replica = start_replica()
    replica.terminate()
    assert replica.wait() == 0


def test_sigint_ends_promptly_whatever_the_drain_time(start_replica: Start) -> None:
    replica = start_replica(drain_s=2 * PATIENCE_S)
    os.kill(replica.pid, signal.SIGINT)
    assert replica.wait() in (0, 130)
    assert "Traceback" not in replica.log
