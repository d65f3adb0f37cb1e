"""Alerts about calls and those who wait for them: each fires by its fault."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2
import pytest

from tests.support.call_requests import REQUIRED
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.going_on import going_on
from tests.support.prometheus_server import Watch
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import ADMIN, ADMIN_TOKEN, CREDENTIALS, PROOF, READ_TOKEN
from tests.support.traffic import get_call, post_webhook
from tests.support.vapi_sender import full_report, status_update

Start = Callable[..., Replica]


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as vapi:
        yield vapi


@pytest.fixture
def kestra() -> Iterator[FakeKestra]:
    kestra = FakeKestra().start()
    yield kestra
    kestra.stop()


async def test_secrets_and_tokens_that_drifted_apart(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch
) -> None:
    replica = start_replica(**CREDENTIALS)
    prometheus = watch(replica, token=READ_TOKEN)

    async def send(number: int) -> None:
        await client.post(replica.url + WEBHOOK, json=status_update("queued"), headers={"X-Vapi-Secret": "the old one"})

    async def poll(number: int) -> None:
        await client.get(replica.url + CALLS + "call-1", headers={"Authorization": "Bearer the-old-one"})

    async with going_on(send):
        await prometheus.fires("VapiSecretsDrifted")
    assert "VapiCallersRefused" not in prometheus.firing()
    async with going_on(poll):
        await prometheus.fires("VapiCallersRefused")
    await prometheus.is_quiet("VapiSecretsDrifted", "VapiCallersRefused")


async def test_strangers_without_any_proof_are_no_drift_while_webhooks_come(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch
) -> None:
    replica = start_replica(**CREDENTIALS)
    prometheus = watch(replica, token=READ_TOKEN)

    async def send(number: int) -> None:
        sending = [
            post_webhook(client, replica, status_update("queued", f"c-{number}-{i}"), **PROOF) for i in range(20)
        ]
        await asyncio.gather(*sending, client.post(replica.url + WEBHOOK, json={}))
        assert "VapiSecretsDrifted" not in prometheus.firing()

    async with going_on(send):
        await asyncio.sleep(8)  # longer than the alert's window


async def test_reports_that_never_came(client: httpx2.AsyncClient, start_replica: Start, watch: Watch) -> None:
    replica = start_replica(report_grace_s=0.3)
    prometheus = watch(replica)
    await post_webhook(client, replica, status_update("ended", "call-1", endedReason="customer-ended-call"))
    await prometheus.fires("VapiReportsMissing")


async def test_a_call_that_is_stuck_in_progress_until_its_report_comes(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch
) -> None:
    replica = start_replica()
    prometheus = watch(replica)
    await post_webhook(client, replica, status_update("in-progress", "call-1"))
    await prometheus.fires("VapiCallsStuck")
    await post_webhook(client, replica, full_report("call-1"))
    await prometheus.is_quiet("VapiCallsStuck")


async def test_calls_that_fail(client: httpx2.AsyncClient, start_replica: Start, watch: Watch) -> None:
    replica = start_replica()
    prometheus = watch(replica)
    for number in range(8):
        await post_webhook(
            client, replica, full_report(f"call-{number}", endedReason="pipeline-no-available-llm-model")
        )
    await prometheus.fires("VapiCallsFailing")
    reasons = prometheus.query("vapi_calls_failed_total")
    assert [series["metric"]["reason"] for series in reasons] == ["pipeline-no-available-llm-model"]


async def test_webhooks_that_never_came(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch, vapi: FakeVapi
) -> None:
    replica = start_replica(**vapi.settings)
    prometheus = watch(replica)
    calls = [vapi.add_call() for _ in range(6)]
    for call_id in calls:
        await vapi.run_call(call_id, plan=Plan(is_silent=True))
    await asyncio.gather(*(get_call(client, replica, call_id, wait="20") for call_id in calls))
    await prometheus.fires("VapiWebhooksMissing")


async def test_a_vapi_that_cannot_be_asked(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch, vapi: FakeVapi
) -> None:
    replica = start_replica(**vapi.settings)
    prometheus = watch(replica)
    vapi.go_away()

    async def ask(number: int) -> None:
        await get_call(client, replica, str(uuid.uuid4()))

    async with going_on(ask):
        await prometheus.fires("VapiApiFailing")
    await prometheus.is_quiet("VapiApiFailing")


async def test_a_call_of_which_nobody_knows_whether_it_was_placed(
    client: httpx2.AsyncClient, start_replica: Start, watch: Watch, vapi: FakeVapi
) -> None:
    here = {"vapi_webhook_url": "https://calls.example/api/v1/vapi/webhook", "api_admin_tokens": ADMIN_TOKEN}
    replica = start_replica(**here, api_read_tokens=READ_TOKEN, vapi_webhook_secret="s", **vapi.settings)
    prometheus = watch(replica, token=READ_TOKEN)
    vapi.break_next(method="POST")
    answer = await client.post(replica.url + CALLS.rstrip("/"), json=REQUIRED, headers=ADMIN)
    assert answer.status_code == 502
    await prometheus.fires("VapiCallOutcomeUnknown")


async def test_executions_that_cannot_be_resumed(
    client: httpx2.AsyncClient, redis_process: RedisProcess, start_replica: Start, watch: Watch, kestra: FakeKestra
) -> None:
    replica = start_replica(redis_url=redis_process.url, redis_key_prefix="undelivered", kestra_url=kestra.url)
    prometheus = watch(replica)

    async def subscribe(call_id: str, execution_id: str) -> None:
        body = {"kind": "kestra_resume", "execution_id": execution_id}
        answer = await client.post(f"{replica.url}{CALLS}{call_id}/subscriptions", json=body)
        assert answer.status_code == 202

    await post_webhook(client, replica, full_report("call-1"))
    await subscribe("call-1", "nobodyknowsit")
    await prometheus.fires("VapiSubscriptionsDropped")
    kestra.answer_next(503, times=1_000_000)
    for number in range(20):
        await subscribe("call-1", paused_execution(kestra, f"execution{number}").id)
    await prometheus.fires("VapiSubscriptionsUndelivered")
