"""Measures each way of waiting on Kestra's own engine: from a call's last webhook to the record, and to the flow's end.

    .venv/bin/python -m tests.kestra_engine.measure [version ...]

The figures of deploy/kestra/README.md come from here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from service.load_config import load_settings
from service.log import configure_logs
from tests.kestra_engine.conftest import VERSIONS
from tests.kestra_engine.engine import Engine
from tests.kestra_engine.house import TOKEN, House, client_settings, settings_of
from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica

WAYS = ("wait_loop", "wait_long_poll", "wait_events", "wait_pause_resume")
ALONE = 4
CROWD = 50
SETTLE_S = 8.0
"""Until everybody has asked or subscribed; a random part of a loop's interval is added."""


def main(versions: Sequence[str]) -> None:
    print("version | flow | calls at once | webhook to record: p50, max (s) | webhook to end: p50, max (s)")
    for version in versions:
        engine = Engine(version, secrets={"VAPI_CACHE_TOKEN": TOKEN}).start()
        try:
            for flow in WAYS:
                asyncio.run(measure(engine, flow))
        finally:
            engine.stop()


async def measure(engine: Engine, flow: str) -> None:
    redis = RedisProcess().start()
    replicas: list[Replica] = []
    async with FakeVapi() as vapi:

        def build(**settings: object) -> Replica:
            replicas.append(Replica(REDIS_URL=redis.url, **settings_of(engine, vapi), **settings).start())
            return replicas[-1]

        house = House(engine, vapi, build, client_settings(engine))
        try:
            alone = [(await run_together(house, flow, 1))[0] for _ in range(ALONE)]
            show(engine, flow, 1, alone)
            show(engine, flow, CROWD, await run_together(house, flow, CROWD))
        finally:
            await house.close()
            for replica in replicas:
                replica.stop()
            redis.stop()


async def run_together(house: House, flow: str, count: int) -> list[tuple[float, float]]:
    """For each of so many calls that end at once: seconds to the record, and to the end of the execution."""
    ids = [house.add_call() for _ in range(count)]
    executions = [await house.start(flow, call_id=call_id) for call_id in ids]
    await asyncio.sleep(SETTLE_S + random.uniform(0, 5))

    async def run(call_id: str) -> datetime:
        await house.run_call(call_id)
        return datetime.now(UTC)

    ended_at = await asyncio.gather(*map(run, ids))
    for execution in executions:
        assert await house.end(execution, within_s=240) == "SUCCESS"
    times = [await house.times_of(execution) for execution in executions]
    return [
        ((read - ended).total_seconds(), (over - ended).total_seconds())
        for ended, (read, over) in zip(ended_at, times, strict=True)
    ]


def show(engine: Engine, flow: str, count: int, times: list[tuple[float, float]]) -> None:
    columns = [f"{statistics.median(column):.2f}, {max(column):.2f}" for column in zip(*times, strict=True)]
    print(engine.version, flow, count, *columns, sep=" | ", flush=True)


if __name__ == "__main__":
    configure_logs(load_settings({"LOG_LEVEL": "error"}))
    main(sys.argv[1:] or VERSIONS)
