"""The stats of all replicas: what is stored, what was counted, and rates that are null while nothing happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, STATS, WEBHOOK
from tests.support.service_api import ADMIN, CREDENTIALS, PROOF, connected, counted, deliver, stats_of
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update

UNTOUCHED = {
    "webhooks": {
        "received": 0,
        "stored": 0,
        "ignored": 0,
        "invalid": 0,
        "unauthorized": 0,
        "spooled": 0,
        "failed": 0,
        "delivery_success_rate": None,
    },
    "calls": {
        "ended": 0,
        "completed": 0,
        "completion_rate": None,
        "average_duration_minutes": None,
        "outcomes": {},
        "retries": {},
        "ended_reasons": {},
    },
    "polls": {
        "hits": 0,
        "misses": 0,
        "waits": 0,
        "hit_rate": None,
        "parked": 0,
        "wake_latency": {
            "at_most_ms": [0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, None],
            "counts": [0] * 14,
        },
    },
    "placed": {"placed": 0, "repeated": 0, "refused": 0, "failed": 0, "unknown": 0},
}


async def delivered(client: httpx2.AsyncClient, *bodies: dict[str, Any]) -> None:
    await deliver(client, *bodies, **PROOF)


async def test_rates_are_null_while_nothing_happened(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica()) as client:
        stats = await stats_of(client)
    assert {name: stats[name] for name in UNTOUCHED} == UNTOUCHED
    assert (stats["size"], stats["entries"]) == (0, [])
    assert set(stats) == {"size", "entries", "webhooks", "calls", "polls", "placed", "replicas", "store"}


async def test_each_call_counts_once_as_it_was_when_it_first_became_final(
    start_replica: Callable[..., Replica],
) -> None:
    async with connected(start_replica(report_grace_s=0.5, **CREDENTIALS), **ADMIN) as client:
        late = preliminary_report("late", endedReason="customer-busy-not-really-ended")
        await delivered(client, full_report("whole"), full_report("whole", at_ms=1_788_264_009_000, cost=9))
        await delivered(client, full_report("mail", endedReason="voicemail", durationSeconds=120))
        await delivered(client, status_update("ended", "late", endedReason="worker-shutdown"))
        failed = await client.get(CALLS + "late", params={"wait": "5"})
        assert failed.json()["data"]["data_status"] == "fetch_failed"
        await counted(client, {"calls": {"ended": 3, "completed": 2, "completion_rate": 0.6667}})
        await delivered(client, late, full_report("late", endedReason="customer-ended-call"))
        await delivered(client, status_update("in-progress", "running"))
        expected = {
            "ended": 3,
            "completed": 3,
            "completion_rate": 1.0,
            "average_duration_minutes": 1.22,
            "outcomes": {"completed": 1, "voicemail": 1, "failed": 1},
            "retries": {"later": 1, "soon": 1},
            "ended_reasons": {"assistant-ended-call": 1, "voicemail": 1, "worker-shutdown": 1},
        }
        await counted(client, {"calls": expected})


async def test_a_duration_that_no_call_can_have_is_taken_and_left_out_of_the_average(
    start_replica: Callable[..., Replica],
) -> None:
    async with connected(start_replica()) as client:
        await deliver(client, full_report("sane", durationSeconds=None, durationMs=None, durationMinutes=2))
        for number, minutes in enumerate((1.7e308, 1e300, -1e308, -1)):
            odd = full_report(f"odd-{number}", durationSeconds=None, durationMs=None, durationMinutes=minutes)
            await deliver(client, odd)
        await counted(client, {"calls": {"ended": 5, "completed": 5, "average_duration_minutes": 2.0}})


async def test_each_webhook_counts_by_what_became_of_it(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(**CREDENTIALS), **ADMIN) as client:
        await delivered(client, status_update("queued"), status_update("queued"), status_update("ringing"))
        await delivered(client, message("session.created", None), message("tool-calls", None))
        for _ in range(3):
            assert (await client.post(WEBHOOK, content=b"no", headers=PROOF)).status_code == 400
        no_id = message("status-update", None)
        assert (await client.post(WEBHOOK, json=no_id, headers=PROOF)).status_code == 400
        assert (await client.post(WEBHOOK, json=no_id)).status_code == 401
        signed = {"X-Vapi-Signature": "0" * 64}
        assert (await client.post(WEBHOOK, json=no_id, headers=signed)).status_code == 401
        expected = {"stored": 2, "ignored": 3, "invalid": 4, "unauthorized": 2, "spooled": 0, "failed": 0}
        await counted(client, {"webhooks": {**expected, "received": 11, "delivery_success_rate": 1.0}})


async def test_a_poll_is_a_hit_if_a_record_was_there_at_its_first_read(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(max_wait_s=0.1)) as client:
        await deliver(client, status_update("queued", "known"))
        for path in ("known", "known?view=summary", "known?wait=0", "unknown", "unknown?wait=1", "known?wait=x"):
            await client.get(CALLS + path)
        await counted(client, {"polls": {"hits": 3, "misses": 2, "waits": 2, "hit_rate": 0.6}})


async def test_entries_are_the_live_records_newest_first(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica()) as client:
        for number in range(25):
            await deliver(client, status_update("queued", f"call-{number}"))
        await deliver(client, full_report("call-3"))
        await client.delete(CALLS + "call-24")
        stats = await stats_of(client)
        record = (await client.get(CALLS + "call-3")).json()["data"]
        everything = await stats_of(client, 100)
        nothing = await stats_of(client, 0)
    newest = stats["entries"][0]
    assert (newest["callId"], newest["status"], newest["dataStatus"]) == ("call-3", "ended", "complete")
    assert newest["expiresAt"] - newest["timestamp"] == 1_800_000
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(newest["timestamp"] // 1000)) == record["updated_at"][:19]
    moments = [entry["timestamp"] for entry in everything["entries"]]
    assert moments == sorted(moments, reverse=True)
    assert "call-24" not in [entry["callId"] for entry in everything["entries"]]
    assert [len(one["entries"]) for one in (stats, everything, nothing)] == [20, 24, 0]
    assert [one["size"] for one in (stats, everything, nothing)] == [24, 24, 24]


async def test_entries_whose_grace_ends_with_this_look_are_in_order_too(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(report_grace_s=1)) as client:
        for number in range(20):
            await deliver(client, status_update("ended", f"over-{number}"), status_update("queued", f"call-{number}"))

        async def has_ended() -> bool:
            entries = (await stats_of(client, 100))["entries"]
            moments = [entry["timestamp"] for entry in entries]
            assert moments == sorted(moments, reverse=True)
            return "fetch_failed" in [entry["dataStatus"] for entry in entries]

        await eventually(has_ended)


@pytest.mark.parametrize("limit", ["-1", "101", "x", "", "1.5"])
async def test_a_limit_out_of_bounds_is_refused(client: httpx2.AsyncClient, limit: str) -> None:
    answer = await client.get(STATS, params={"limit": limit})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "limit")


async def test_a_reason_is_counted_under_the_words_that_the_record_has(start_replica: Callable[..., Replica]) -> None:
    reason = 'caf\u00e9 "closed" \\ early'
    async with connected(start_replica()) as client:
        await deliver(client, full_report("odd-reason", endedReason=reason))
        assert (await client.get(CALLS + "odd-reason")).json()["data"]["ended_reason"] == reason
        await counted(client, {"calls": {"ended": 1}})
        assert (await stats_of(client))["calls"]["ended_reasons"] == {reason: 1}


async def test_the_stats_cover_all_replicas(redis_process: RedisProcess, start_replica: Callable[..., Replica]) -> None:
    shared = {"redis_url": redis_process.url, "redis_key_prefix": "api-stats", "store_timeout_s": 1.2}
    replicas = [start_replica(**shared) for _ in range(2)]
    for number, replica in enumerate(replicas):
        async with connected(replica) as client:
            await deliver(client, full_report(f"call-{number}"))
    async with connected(replicas[0]) as client:
        await counted(client, {"webhooks": {"received": 2, "stored": 2}, "calls": {"ended": 2}})
        seen = (await stats_of(client))["replicas"]
    assert len({replica["id"] for replica in seen}) == 2
    names = {"id", "version", "started_at", "last_seen", "processes", "parked_polls", "spool"}
    assert all(set(replica) == names for replica in seen)


async def test_a_503_lowers_the_delivery_success_rate(
    own_redis: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    statuses: list[int] = []
    async with connected(start_replica(redis_url=own_redis.url, store_timeout_s=1.2)) as client:

        async def is_taken() -> bool:
            statuses.append((await client.post(WEBHOOK, json=status_update("queued"))).status_code)
            return statuses[-1] == 200

        await eventually(is_taken)
        own_redis.stop()
        refused = await client.post(WEBHOOK, json=status_update("ringing"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        own_redis.start()
        received = len(statuses) + 1
        rate = round(1 / received, 4)
        await counted(
            client, {"webhooks": {"received": received, "failed": received - 1, "delivery_success_rate": rate}}
        )
