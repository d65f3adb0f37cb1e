"""What the stats say of this moment: the life of each of the newest calls, parked polls, each replica's spool."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.service_api import connected, counted, deliver, parked_poll, stats_of
from tests.support.vapi_sender import full_report, status_update


async def test_an_entry_tells_the_calls_life_and_masks_its_phone(start_replica: Callable[..., Replica]) -> None:
    began_ms = round(time.time() * 1000)
    async with connected(start_replica()) as client:
        await deliver(client, status_update("in-progress", "running"))
        await deliver(client, full_report("over", endedReason="customer-busy"))
        stats = await stats_of(client)
    over, running = stats["entries"]
    names = ("status", "overAt", "startedAt", "endedAt", "durationMinutes", "outcome", "retry", "endedReason", "phone")
    assert {name: running[name] for name in names} == dict.fromkeys(names) | {"status": "in-progress"}
    assert {name: over[name] for name in names if name != "overAt"} == {
        "status": "ended",
        "startedAt": 1_788_264_019_000,
        "endedAt": 1_788_264_045_260,
        "durationMinutes": 0.44,
        "outcome": "busy",
        "retry": "later",
        "endedReason": "customer-busy",
        "phone": "+1864***0123",
    }
    assert began_ms <= running["createdAt"] <= over["createdAt"] <= over["overAt"] <= over["timestamp"]
    assert "8645550123" not in str(stats)


async def test_parked_polls_and_their_wakes_are_counted(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica()) as client:
        async with parked_poll(client, "parked") as poll:
            await counted(client, {"polls": {"parked": 1}})
            await deliver(client, full_report("parked"))
            assert (await poll).status_code == 200
        await counted(client, {"polls": {"parked": 0}})
        assert sum((await stats_of(client))["polls"]["wake_latency"]["counts"]) == 1


async def test_each_replica_shows_its_spool(start_replica: Callable[..., Replica], tmp_path: Path) -> None:
    async with connected(start_replica(spool_dir=tmp_path)) as client:

        async def is_shown() -> bool:
            replicas = (await stats_of(client))["replicas"]
            return [replica["spool"] for replica in replicas] == [{"bytes": 0, "waiting": 0, "rejected": 0}]

        await eventually(is_shown)
