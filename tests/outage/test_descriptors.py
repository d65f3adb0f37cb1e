"""A process that runs short of descriptors: said, counted, and webhooks are still taken."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Iterator

import pytest

from tests.outage.raw_http import RawConnection, get, post
from tests.store.events import until
from tests.support.replica import Replica
from tests.support.vapi_sender import status_update

LIMIT = 128
STRANGERS = 150
"""More than there are descriptors."""


@pytest.fixture
def limited() -> Iterator[Replica]:
    """A replica that inherits a low limit: it takes all that it is allowed, which is as little."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, allowed[1]))
    try:
        replica = Replica(log_level="warning")
        replica.launch()
        resource.prlimit(replica.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    replica.wait_until_served()
    yield replica
    replica.stop()


async def test_webhooks_are_taken_while_silent_connections_use_up_all_descriptors(limited: Replica) -> None:
    strangers = [await RawConnection.open(limited.port) for _ in range(STRANGERS)]
    try:
        for number in range(20):
            webhook = post(json.dumps(status_update("ringing", f"short-{number}")).encode())
            async with await RawConnection.open(limited.port) as connection:
                await connection.send(webhook)
                assert (await connection.answer(within_s=60)).status == 200
        async with await RawConnection.open(limited.port) as connection:
            await connection.send(get(b"/metrics"))
            metrics = (await connection.answer(within_s=60)).body.decode()
    finally:
        for stranger in strangers:
            stranger.abort()
    lost = next(line for line in metrics.splitlines() if line.startswith('http_connections_lost_total{kind="idle"}'))
    assert float(lost.split()[1]) > 0
    assert limited.log.count("descriptors.ran_short") == 1


async def test_who_comes_when_all_connections_are_busy_is_told_so_and_served_later(limited: Replica) -> None:
    parked = [await RawConnection.open(limited.port) for _ in range(STRANGERS)]
    try:
        for connection in parked:
            connection.write(get(b"/api/v1/vapi/calls/nobody?wait=25"))
        await asyncio.sleep(0)
        statuses = set()
        for _ in range(10):
            async with await RawConnection.open(limited.port) as connection:
                try:
                    await connection.send(get(b"/health/live"))
                    answer = await connection.answer(within_s=60)
                except (ConnectionError, asyncio.IncompleteReadError):
                    continue  # not even a refusal could be afforded
                statuses.add((answer.status, answer.header("retry-after")))
        assert statuses <= {(503, "1"), (200, None)}
    finally:
        for connection in parked:
            connection.abort()

    async def is_served() -> bool:
        try:
            async with await RawConnection.open(limited.port) as connection:
                await connection.send(get(b"/health/live"))
                return (await connection.answer(within_s=60)).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    await until(is_served)
