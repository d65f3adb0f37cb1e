"""Kestra subscribes an execution to a call and goes to sleep; the end of the call, however it comes, wakes it up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.kestra_execution import FakeExecution
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution, resumes_sent
from tests.support.routes import CALLS
from tests.support.service_api import (
    ADMIN,
    CREDENTIALS,
    PROOF,
    READER,
    connected,
    deliver,
    metrics_reach,
    new_address,
    new_call_id,
    stats_of,
    subscribe_execution,
)
from tests.support.vapi_sender import full_report, status_update


@pytest.fixture(scope="module")
def kestra() -> Iterator[FakeKestra]:
    kestra = FakeKestra("v2").start()
    yield kestra
    kestra.stop()


@pytest.fixture(scope="module")
def replica(kestra: FakeKestra, redis_process: RedisProcess) -> Iterator[Replica]:
    """Knows the Kestra; a report's grace is short; a webhook secret, a read token and an admin token."""
    replica = Replica(
        redis_url=redis_process.url,
        redis_key_prefix="api-subscribing",
        store_timeout_s=1.2,
        kestra_url=kestra.url,
        report_grace_s=0.5,
        **CREDENTIALS,
    ).start()
    yield replica
    replica.stop()


@pytest.fixture
async def flow(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a read token, as a flow has it."""
    async with connected(replica, **READER) as client:
        yield client


@pytest.fixture
def execution(kestra: FakeKestra) -> FakeExecution:
    return paused_execution(kestra, new_call_id().replace("-", ""))


async def test_a_report_wakes_the_execution_that_waits_for_it(
    flow: httpx2.AsyncClient, execution: FakeExecution
) -> None:
    call_id = new_call_id()
    answer = await subscribe_execution(flow, call_id, execution.id)
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    await deliver(flow, status_update("in-progress", call_id), **PROOF)
    assert execution.resumes == 0

    await deliver(flow, full_report(call_id), **PROOF)
    await execution.until_resumed()


async def test_the_end_of_the_grace_wakes_it_too(flow: httpx2.AsyncClient, execution: FakeExecution) -> None:
    call_id = new_call_id()
    await deliver(flow, status_update("ended", call_id), **PROOF)
    await subscribe_execution(flow, call_id, execution.id)

    await execution.until_resumed()
    record = (await flow.get(CALLS + call_id)).json()["data"]
    assert record["data_status"] == "fetch_failed"


@pytest.mark.parametrize("call_is_known", [True, False])
async def test_a_deletion_wakes_it_too(
    flow: httpx2.AsyncClient, execution: FakeExecution, *, call_is_known: bool
) -> None:
    call_id = new_call_id()
    if call_is_known:
        await deliver(flow, status_update("ringing", call_id), **PROOF)
    await subscribe_execution(flow, call_id, execution.id)
    await flow.delete(CALLS + call_id, headers=ADMIN)

    await execution.until_resumed()


async def test_subscribing_again_and_again_wakes_it_once(
    flow: httpx2.AsyncClient, execution: FakeExecution, kestra: FakeKestra
) -> None:
    call_id = new_call_id()
    sent_before = resumes_sent(kestra)
    await deliver(flow, full_report(call_id), **PROOF)
    await asyncio.gather(*(subscribe_execution(flow, call_id, execution.id) for _ in range(5)))
    await execution.until_resumed()
    answer = await subscribe_execution(flow, call_id, execution.id)

    assert (answer.status_code, answer.json()) == (202, {"success": True})
    assert resumes_sent(kestra) == sent_before + 1


async def test_members_that_nobody_knows_are_ignored(flow: httpx2.AsyncClient, execution: FakeExecution) -> None:
    assert (await subscribe_execution(flow, new_call_id(), execution.id, note={"a": [1]})).status_code == 202


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["$.kind", "$.execution_id"]),
        ({"kind": "kestra_resume"}, ["$.execution_id"]),
        ({"kind": "secret-kind", "execution_id": "abc"}, ["$.kind"]),
        ({"kind": ["kestra_resume"], "execution_id": "abc"}, ["$.kind"]),
        ({"kind": "kestra_resume", "execution_id": ""}, ["$.execution_id"]),
        ({"kind": "kestra_resume", "execution_id": "secret/../1"}, ["$.execution_id"]),
        ({"kind": "kestra_resume", "execution_id": "abc\n"}, ["$.execution_id"]),
        ({"kind": "kestra_resume", "execution_id": "é"}, ["$.execution_id"]),
        ({"kind": "kestra_resume", "execution_id": "a" * 65}, ["$.execution_id"]),
        ({"kind": "kestra_resume", "execution_id": 7}, ["$.execution_id"]),
        ([], ["$"]),
        (None, ["$"]),
    ],
)
async def test_a_wrong_body_is_refused_by_naming_all_that_is_wrong(
    flow: httpx2.AsyncClient, body: Any, paths: list[str]
) -> None:
    answer = await flow.post(CALLS + "some-call/subscriptions", json=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert [detail["path"] for detail in answer.json()["details"]] == paths
    assert "secret" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b'{"kind":"\xff"}', b"[" * 5000, b'{"kind":NaN}'])
async def test_what_is_no_json_is_refused(flow: httpx2.AsyncClient, body: bytes) -> None:
    assert (await flow.post(CALLS + "some-call/subscriptions", content=body)).status_code == 400


async def test_an_odd_call_id_is_refused(flow: httpx2.AsyncClient) -> None:
    assert (await subscribe_execution(flow, ".hidden", "abc")).status_code == 400


async def test_the_hundred_and_first_of_a_call_is_refused(flow: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    answers = await asyncio.gather(*(subscribe_execution(flow, call_id, f"execution{number}") for number in range(101)))
    assert sorted(answer.status_code for answer in answers) == [202] * 100 + [429]


async def test_it_takes_a_token(replica: Replica) -> None:
    async with connected(replica, **{"X-Forwarded-For": new_address()}) as stranger:
        assert (await subscribe_execution(stranger, "some-call", "abc")).status_code == 401


async def test_without_kestra_it_is_not_implemented(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica()) as client:
        answer = await subscribe_execution(client, "some-call", "abc")
    assert answer.status_code == 501
    assert "KESTRA_URL" in answer.json()["error"]


async def test_while_redis_is_away_nothing_is_promised(
    kestra: FakeKestra, own_redis: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=own_redis.url, store_timeout_s=0.3, kestra_url=kestra.url)
    own_redis.stop()
    async with connected(replica) as client:
        answer = await subscribe_execution(client, "some-call", "abc")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_stats_and_metrics_count_what_became_of_it(
    kestra: FakeKestra, start_replica: Callable[..., Replica]
) -> None:
    execution = paused_execution(kestra, "counted")
    async with connected(start_replica(kestra_url=kestra.url)) as client:
        await subscribe_execution(client, "runs", "whoever")
        await deliver(client, full_report("over"))
        kestra.refuse_resumes(1)
        await subscribe_execution(client, "over", execution.id)
        await execution.until("RESTARTED")
        await subscribe_execution(client, "over", "nobody")
        expected = {"waiting_calls": 1, "due": 0, "resumed": 1, "dropped": 1, "retried": 1}

        async def stand() -> bool:
            return bool((await stats_of(client))["subscriptions"] == expected)

        await eventually(stand)
        shown = {f'vapi_subscriptions_total{{result="{result}"}}': 1.0 for result in ("resumed", "dropped", "retried")}
        await metrics_reach(client, shown)


async def test_nothing_of_it_is_logged_but_the_ids(kestra: FakeKestra, start_replica: Callable[..., Replica]) -> None:
    execution = paused_execution(kestra, "logged")
    replica = start_replica(kestra_url=kestra.url)
    async with connected(replica) as client:
        await deliver(client, full_report("call-1"))
        await subscribe_execution(client, "call-1", execution.id, note="a-private-note")
        await execution.until_resumed()

        async def is_told() -> bool:
            lines = [json.loads(line) for line in replica.log.splitlines()]
            return any(
                (line["event"], line.get("call_id"), line.get("execution_id"))
                == ("resume.succeeded", "call-1", "logged")
                for line in lines
            )

        await eventually(is_told)
    assert "a-private-note" not in replica.log
