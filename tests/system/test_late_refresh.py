"""What VAPI adds after the report is asked for once: two replicas, a VAPI, a Kestra, and no minute of waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import httpx2
import pytest
from redis.asyncio import Redis

from service.jobs.sweep import SWEEP_EVERY_S
from service.store.calls import REFRESH_AFTER_MS
from service.store.keys import Keys, bucket_of
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.passing_time import let_refresh_pass
from tests.support.reconciling_replica import asked_for
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution, resumes_sent
from tests.support.routes import CALLS
from tests.support.traffic import ask_until_served, get_record, post_until_taken
from tests.support.vapi_sender import full_report, preliminary_report

PREFIX: Final = "late-refresh"
KEYS: Final = Keys(PREFIX)
Pair = tuple[Replica, Replica]

SAID: Final = {"transcript": "AI: Hello.\nUser: Hi.\n"}
RECORDED: Final = SAID | {"recordingUrl": "https://storage.example/recording.wav"}
SILENT: Final = {"transcript": "AI: Hello?\n"}
OFF: Final = {"artifactPlan": {"recordingEnabled": False}}
BY_ID: Final = {"artifactPlan": {"structuredOutputIds": ["u1"]}}
INLINE: Final = {"artifactPlan": {"structuredOutputs": [{"name": "CSAT", "type": "ai"}]}}
SKIPPED: Final = {"skippedStructuredOutputs": {"u1": {"name": "CSAT"}}}
OUTPUTS: Final = {"structuredOutputs": {"u1": {"name": "CSAT", "result": 8}}}


@pytest.fixture(scope="module")
def vapi() -> Iterator[FakeVapi]:
    vapi = FakeVapi().start()
    yield vapi
    vapi.stop()


@pytest.fixture(scope="module")
def kestra() -> Iterator[FakeKestra]:
    kestra = FakeKestra().start()
    yield kestra
    kestra.stop()


@pytest.fixture(scope="module")
def pair(redis_process: RedisProcess, vapi: FakeVapi, kestra: FakeKestra) -> Iterator[Pair]:
    """Two replicas that may ask the VAPI, at more than the usual rate. An analysis is not waited for."""
    settings = {"redis_url": redis_process.url, "redis_key_prefix": PREFIX, "kestra_url": kestra.url, **vapi.settings}
    settings |= {"expect_analysis": "0", "reconcile_per_second": "100"}
    first, second = Replica(**settings).start(), Replica(**settings).start()
    yield first, second
    first.stop()
    second.stop()


async def ended_call(vapi: FakeVapi) -> str:
    """A call that VAPI knows with all its results, and of which it has told nothing."""
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    return call_id


async def let_a_minute_pass(redis: Redis, call_id: str) -> None:
    await let_refresh_pass(redis, KEYS.refreshes[bucket_of(call_id.encode())], call_id, REFRESH_AFTER_MS / 1000)


async def test_a_record_gains_its_recording_by_one_request_and_nobody_is_resumed_again(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi, kestra: FakeKestra, redis: Redis
) -> None:
    call_id, execution = await ended_call(vapi), paused_execution(kestra)
    body = {"kind": "kestra_resume", "execution_id": execution.id}
    ask = partial(client.post, f"{pair[1].url}{CALLS}{call_id}/subscriptions", json=body)
    assert (await ask_until_served(ask)).status_code == 202
    await post_until_taken(client, pair[0], full_report(call_id, artifact=SAID))
    await execution.until_resumed()
    before = await get_record(client, pair[1], call_id)
    assert (before["data_status"], before["recording_url"]) == ("complete", None)
    assert asked_for(vapi, call_id) == 0

    await let_a_minute_pass(redis, call_id)

    async def is_recorded() -> bool:
        data = await get_record(client, pair[1], call_id)
        return bool(data["recording_url"] == vapi.calls[call_id]["recordingUrl"])

    await eventually(is_recorded)
    after = await get_record(client, pair[0], call_id)
    assert after["version"] > before["version"]
    await asyncio.sleep(2 * SWEEP_EVERY_S)
    assert asked_for(vapi, call_id) == 1
    assert (execution.resumes, resumes_sent(kestra)) == (1, 1)


ASKED: Final[dict[str, dict[str, Any]]] = {
    "it lacks its recording": full_report(artifact=SAID),
    "it lacks outputs asked for by id": preliminary_report(artifact=RECORDED, assistant=BY_ID),
    "it lacks outputs asked for inline": preliminary_report(artifact=RECORDED, assistant=INLINE),
}
NOT_ASKED: Final[dict[str, dict[str, Any]]] = {
    "it lacks nothing": full_report(),
    "it is not recorded": full_report(artifact=SAID, assistant=OFF),
    "it is not recorded, by an override": full_report(artifact=SAID, call={"assistantOverrides": OFF}),
    "it is not recorded, by its own plan": full_report(artifact=SAID, call=OFF),
    "the customer never spoke": full_report(artifact=SILENT),
    "its outputs were skipped": full_report(artifact=RECORDED | SKIPPED, assistant=BY_ID),
    "its outputs are here": full_report(artifact=RECORDED | OUTPUTS, assistant=BY_ID),
}


async def test_only_what_was_asked_for_and_is_missing_is_asked_for(
    client: httpx2.AsyncClient, pair: Pair, vapi: FakeVapi, redis: Redis
) -> None:
    ids = {name: await ended_call(vapi) for name in (*ASKED, *NOT_ASKED)}
    for number, (name, body) in enumerate((ASKED | NOT_ASKED).items()):
        call = body["message"]["call"] | {"id": ids[name]}
        await post_until_taken(client, pair[number % 2], {"message": body["message"] | {"call": call}})
    for call_id in ids.values():
        data = await get_record(client, pair[0], call_id)
        assert data["data_status"] == "complete"
        await let_a_minute_pass(redis, call_id)

    async def are_asked() -> bool:
        return all(asked_for(vapi, ids[name]) for name in ASKED)

    await eventually(are_asked)
    await asyncio.sleep(2 * SWEEP_EVERY_S)
    assert {name: asked_for(vapi, ids[name]) for name in ids} == {name: int(name in ASKED) for name in ids}
