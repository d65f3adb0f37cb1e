"""What must go on while a part of Redis is broken; each look returns what did not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import httpx2

from tests.support.dead_shard import DeadShard
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.replica import Replica
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report

WOKEN_WITHIN_S = 3.0
"""The promise is two seconds; the rest is for a machine that also runs the load."""

DRAINED_WITHIN_S = 10.0
DEAF_EVERY_S = 0.02


async def problems_of_sweep(
    client: httpx2.AsyncClient, replicas: list[Replica], living: Iterable[RedisProcess], call_id: str
) -> list[str]:
    """A parked poll whose notification is lost: every subscription is cut again and again meanwhile."""
    is_over = asyncio.Event()
    deafening = asyncio.create_task(_deafen(living, is_over))
    try:
        poll = asyncio.create_task(get_call(client, replicas[0], call_id, wait="20"))
        await asyncio.sleep(0.5)
        await post_webhook(client, replicas[1], full_report(call_id))
        posted_at = time.monotonic()
        status = (await poll).status_code
    finally:
        is_over.set()
        await deafening
    woken_after_s = time.monotonic() - posted_at
    if status != 200 or woken_after_s > WOKEN_WITHIN_S:
        return [f"a poll without its notification was answered {status} after {woken_after_s:.2f} s"]
    return []


async def problems_of_stats(client: httpx2.AsyncClient, replica: Replica, shard: DeadShard) -> list[str]:
    answer = await client.get(replica.url + "/api/v1/vapi/cache/stats")
    missing = answer.json().get("stats", {}).get("missing_buckets")
    return [] if missing == [*shard.buckets] else [f"stats: {answer.status_code}, missing buckets {missing}"]


async def problems_of_posting(client: httpx2.AsyncClient, replica: Replica, call_ids: list[str]) -> list[str]:
    answers = await asyncio.gather(*(post_webhook(client, replica, full_report(call_id)) for call_id in call_ids))
    statuses = {answer.status_code for answer in answers}
    return [] if statuses == {200} else [f"webhooks that the spool should have taken: {statuses}"]


async def problems_of_draining(client: httpx2.AsyncClient, replica: Replica, call_ids: list[str]) -> list[str]:
    deadline = time.monotonic() + DRAINED_WITHIN_S
    left = call_ids
    while left and time.monotonic() < deadline:
        answers = await asyncio.gather(*(get_call(client, replica, call_id, view="summary") for call_id in left))
        left = [call_id for call_id, answer in zip(left, answers, strict=True) if answer.status_code != 200]
        await asyncio.sleep(0.1)
    return [f"{len(left)} of {len(call_ids)} still wait in the spool behind a dead shard's"] if left else []


async def _deafen(nodes: Iterable[RedisProcess], is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        for node in nodes:
            await asyncio.to_thread(ask, node, "CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(DEAF_EVERY_S)
