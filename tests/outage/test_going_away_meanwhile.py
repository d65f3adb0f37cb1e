"""A replica that is told to go while Redis is away goes: the listener's reconnecting does not hold it up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest
from redis.asyncio.connection import Connection

from service.store.changes import Changes
from tests.support.eventually import PATIENCE_S
from tests.support.ports import free_port
from tests.support.replica import Replica


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_replica_that_redis_never_answered_stops(
    start_replica: Callable[..., Replica], number: signal.Signals
) -> None:
    replica = start_replica(redis_url=f"redis://127.0.0.1:{free_port()}")
    os.kill(replica.pid, number)
    replica.wait()


async def test_a_listener_that_is_just_failing_to_connect_can_be_closed() -> None:
    """On Python 3.11 a task group whose child fails as it is cancelled forgets that it was cancelled."""
    port = free_port()
    for turns in range(12):
        changes = Changes(lambda: Connection(host="127.0.0.1", port=port), b"changes")
        changes.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.ensure_future(changes.close())
        done, _ = await asyncio.wait({closing}, timeout=PATIENCE_S)
        closing.cancel()
        assert done
