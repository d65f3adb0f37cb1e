"""Executions that wait for a call are resumed soon after its end, by whoever lives, as often as it takes and no oftener."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import TooManyRequestsError
from service.store.subscriptions import SUBSCRIPTIONS_AT_MOST
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.opened_store import OpenedStore
from tests.support.resuming_replica import OneReplica, paused_execution, resumes_sent
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

CALL = b"call-1"
EXECUTION = b"execution"


async def test_a_report_resumes_who_waits_without_a_sweep(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution, other = paused_execution(kestra), paused_execution(kestra, "other")
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.resumer.subscribe(b"call-2", b"other")
        await replica.calls.merge(change_from(status_update("ringing")))
        assert resumes_sent(kestra) == 0
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)

    assert (execution.resumes, other.resumes, resumes_sent(kestra)) == (1, 0, 1)


async def test_who_comes_too_late_to_wait_is_resumed_at_once(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.calls.merge(change_from(full_report()))
        for _ in range(3):
            await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.until_counted(resumed=1)
        await replica.resumer.subscribe(CALL, EXECUTION)

    assert (execution.resumes, resumes_sent(kestra)) == (1, 1)


async def test_what_another_process_made_due_is_found_by_the_sweep(opened: OpenedStore, kestra: FakeKestra) -> None:
    execution = paused_execution(kestra)
    async with OneReplica(opened) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)
        await opened.store.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)

    assert execution.resumes == 1


async def test_an_execution_that_is_not_paused_yet_is_tried_again_until_it_is(
    opened: OpenedStore, kestra: FakeKestra
) -> None:
    execution = paused_execution(kestra)
    execution.histories = execution.histories[:-1]
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.calls.merge(change_from(full_report()))
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.until_counted(retried=1)
        execution.move("PAUSED")
        await replica.until_counted(resumed=1)

    assert (execution.resumes, replica.results) == (1, {"retried": 1, "resumed": 1})


async def test_an_execution_that_was_resumed_by_somebody_else_counts_as_resumed(
    opened: OpenedStore, kestra: FakeKestra
) -> None:
    execution, over = paused_execution(kestra), paused_execution(kestra, "over")
    async with OneReplica(opened, sweeps=False) as replica:
        await replica.resumer.subscribe(CALL, EXECUTION)
        await replica.resumer.subscribe(CALL, b"over")
        await asyncio.sleep(0.002)  # a pause that ends in the millisecond of the subscription may be an earlier one
        execution.resume({})
        over.end("KILLED")
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=2)

    assert resumes_sent(kestra) == 0


async def test_an_execution_that_kestra_does_not_know_is_dropped(opened: OpenedStore, kestra: FakeKestra) -> None:
    async with OneReplica(opened) as replica:
        await replica.calls.merge(change_from(full_report()))
        await replica.resumer.subscribe(CALL, b"unknown")
        await replica.until_counted(dropped=1)
        await replica.resumer.subscribe(CALL, b"unknown")
        await asyncio.sleep(0.3)

    assert (resumes_sent(kestra), replica.results) == (0, {"dropped": 1})


async def test_many_replicas_resume_each_execution_once(opened: OpenedStore, kestra: FakeKestra) -> None:
    executions = [paused_execution(kestra, f"execution{number}") for number in range(24)]
    async with OneReplica(opened) as one, OneReplica(opened) as two, OneReplica(opened) as three:
        replicas = (one, two, three)
        for number in range(24):
            await one.resumer.subscribe(b"call-%d" % (number % 12), b"execution%d" % number)
        reports = [change_from(full_report(f"call-{number}")) for number in range(12)]
        await asyncio.gather(*(replica.calls.merge(report) for report in reports for replica in replicas))

        async def are_all_resumed() -> bool:
            return sum(replica.results["resumed"] for replica in replicas) == 24

        await eventually(are_all_resumed, 60.0)
    assert {execution.resumes for execution in executions} == {1}
    assert resumes_sent(kestra) == 24


async def test_the_hundred_and_first_subscription_of_a_call_is_refused(opened: OpenedStore) -> None:
    async with OneReplica(opened) as replica:
        for number in range(SUBSCRIPTIONS_AT_MOST):
            await replica.resumer.subscribe(CALL, b"execution%d" % number)
        with pytest.raises(TooManyRequestsError, match="100 subscriptions"):
            await replica.resumer.subscribe(CALL, b"another")


async def test_the_sweep_names_each_call_that_is_waited_for(opened: OpenedStore) -> None:
    named: list[bytes] = []
    async with OneReplica(opened) as replica:
        replica.sweep.on_subscribed = named.append
        await replica.resumer.subscribe(CALL, EXECUTION)

        async def is_named() -> bool:
            return named == [CALL]

        await eventually(is_named)
        await asyncio.sleep(0.3)
    assert named == [CALL]
