"""The whole story: a call is placed, its events arrive on two replicas in any order, and who waits gets the record."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, Literal

import httpx2
import pytest
from redis.asyncio import Redis

from service.store.keys import Keys
from tests.support.call_requests import FULL
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra, Style
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.kestra_execution import FakeExecution
from tests.support.passing_time import let_pass
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, PLACE
from tests.support.traffic import ask_until_served

ADMIN: Final = {"Authorization": "Bearer admin"}
READER: Final = {"Authorization": "Bearer reader"}

Pair = tuple[Replica, Replica]
StartPair = Callable[..., Pair]


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as vapi:
        yield vapi


@pytest.fixture
def start_pair(start_replica: Callable[..., Replica], redis_process: RedisProcess, vapi: FakeVapi) -> StartPair:
    """Two replicas of one service, closed to strangers; VAPI proves itself by the secret in its assistant."""

    def start(**settings: str) -> Pair:
        shared = {
            "redis_url": redis_process.url,
            "redis_key_prefix": f"story-{secrets.token_hex(4)}",
            "vapi_webhook_secret": "s3cret",
            "vapi_webhook_url": "https://calls.example.com/api/v1/vapi/webhook",
            "api_read_tokens": "reader",
            "api_admin_tokens": "admin",
            **vapi.settings,
            **settings,
        }
        return start_replica(**shared), start_replica(**shared)

    return start


async def place(client: httpx2.AsyncClient, replica: Replica, **more: Any) -> dict[str, Any]:
    answer = await ask_until_served(partial(client.post, replica.url + PLACE, json=FULL | more, headers=ADMIN))
    assert answer.status_code == 202
    data: dict[str, Any] = answer.json()["data"]
    return data


async def wait_for(client: httpx2.AsyncClient, replica: Replica, call_id: str) -> dict[str, Any]:
    url = f"{replica.url}{CALLS}{call_id}?wait=20"
    answer = await ask_until_served(partial(client.get, url, headers=READER))
    assert answer.status_code == 200
    data: dict[str, Any] = answer.json()["data"]
    return data


async def subscribe(client: httpx2.AsyncClient, replica: Replica, call_id: str, body: dict[str, str]) -> None:
    url = f"{replica.url}{CALLS}{call_id}/subscriptions"
    assert (await ask_until_served(partial(client.post, url, json=body, headers=READER))).status_code == 202


def disorder(seed: int, order: Literal["shuffled", "reversed"] = "shuffled") -> Plan:
    return Plan(order=order, has_preliminary_report=True, copies=2, is_at_once=True, seed=seed)


@pytest.mark.parametrize("seed", range(3))
async def test_a_placed_calls_record_reaches_who_waits_whatever_the_order_of_its_webhooks(
    seed: int, client: httpx2.AsyncClient, vapi: FakeVapi, start_pair: StartPair
) -> None:
    one, other = start_pair()
    placed = await place(client, one)
    waiting = asyncio.create_task(wait_for(client, other, placed["call_id"]))
    deliveries = await vapi.run_call(placed["call_id"], [one.url, other.url], disorder(seed))
    record = await waiting

    assert (placed["status"], placed["method"]) == ("queued", "vapi")
    assert all(delivery.is_acknowledged for delivery in deliveries)
    assert {delivery.url for delivery in deliveries} >= {one.url + "/api/v1/vapi/webhook"}
    assert (record["status"], record["data_status"], record["outcome"]) == ("ended", "complete", "completed")
    assert record["analysis_structured_data"]
    assert (record["provider_name"], record["service_request_id"]) == (FULL["providerName"], FULL["serviceRequestId"])


async def test_both_replicas_end_with_the_same_record(
    client: httpx2.AsyncClient, vapi: FakeVapi, start_pair: StartPair
) -> None:
    one, other = start_pair()
    call_id = (await place(client, one))["call_id"]
    await vapi.run_call(call_id, [one.url, other.url], disorder(7, "reversed"))
    assert await wait_for(client, one, call_id) == await wait_for(client, other, call_id)


@pytest.mark.parametrize("style", ["v1", "v2"])
async def test_a_flow_places_the_call_pauses_and_is_woken_with_its_record(
    style: Style, client: httpx2.AsyncClient, vapi: FakeVapi, start_pair: StartPair
) -> None:
    replicas: list[Replica] = []

    async def flow(execution: FakeExecution) -> None:
        """What deploy/kestra's flows do, played: place, pause with a subscription, read once resumed."""
        one, other = replicas
        headers = ADMIN | {"Idempotency-Key": execution.id}
        request = json.loads(execution.inputs["request"]) | {"method": "vapi"}
        ask = partial(client.post, one.url + PLACE, json=request, headers=headers)
        answers = [await ask_until_served(ask) for _ in range(2)]
        call_id = answers[0].json()["data"]["call_id"]
        assert answers[1].json() == answers[0].json()
        body = {"kind": "kestra_resume", "execution_id": execution.id}
        await subscribe(client, other, call_id, body)
        execution.pause()
        await execution.until_resumed()
        execution.end(outputs={"call_result": await wait_for(client, other, call_id)})

    async with FakeKestra(style, play=flow) as kestra:
        replicas += start_pair(kestra_url=kestra.url, kestra_enabled="1")
        placed = await place(client, replicas[0])
        execution = kestra.executions[placed["execution_id"]]
        await eventually(lambda: is_there(vapi))
        await execution.until("PAUSED")
        await vapi.run_call(next(iter(vapi.calls)), [replica.url for replica in replicas], disorder(1))
        await execution.until("SUCCESS")

    assert placed == {"call_id": None, "status": "queued", "method": "kestra", "execution_id": execution.id}
    assert len(vapi.calls) == execution.resumes == 1
    assert execution.outputs is not None
    assert execution.outputs["call_result"]["data_status"] == "complete"


async def test_a_paused_flow_whose_webhooks_all_got_lost_is_woken_by_asking_vapi(
    client: httpx2.AsyncClient, vapi: FakeVapi, start_pair: StartPair, redis_process: RedisProcess
) -> None:
    async with FakeKestra() as kestra:
        one, other = start_pair(kestra_url=kestra.url, redis_key_prefix=(prefix := f"lost-{secrets.token_hex(4)}"))
        call_id = (await place(client, one))["call_id"]
        await client.post(f"{kestra.url}/api/v1/main/executions/ai_concierge/without_inputs")
        execution = next(iter(kestra.executions.values()))
        execution.pause()
        body = {"kind": "kestra_resume", "execution_id": execution.id}
        await subscribe(client, other, call_id, body)
        await vapi.run_call(call_id, plan=Plan(is_silent=True))
        async with Redis.from_url(redis_process.url) as redis:
            await let_pass(redis, Keys(prefix).call(call_id.encode()), 31.0)
        await execution.until_resumed()

    assert (await wait_for(client, other, call_id))["data_status"] == "complete"


async def is_there(vapi: FakeVapi) -> bool:
    return bool(vapi.calls)
