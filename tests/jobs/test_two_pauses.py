"""An execution that pauses more than once: a subscription ends the pause that it is for, and never another one."""

from __future__ import annotations

import asyncio

import pytest

from service.store.keys import bucket_of
from service.store.subscriptions import SubscriptionStore
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.kestra_execution import FakeExecution
from tests.support.opened_store import OpenedStore
from tests.support.resuming_replica import OneReplica, paused_execution, resumes_sent
from tests.support.store_events import change_from
from tests.support.vapi_sender import full_report, status_update

FIRST, SECOND = b"call-1", b"call-2"
EXECUTION = b"execution"


@pytest.fixture(params=[True, False], ids=["task runs shown", "only states shown"])
def execution(request: pytest.FixtureRequest, kestra: FakeKestra) -> FakeExecution:
    """Paused for the first call."""
    execution = paused_execution(kestra)
    execution.shows_task_runs = request.param
    return execution


async def until_resumed(execution: FakeExecution, times: int) -> None:
    """Not only counted: it runs on. The fake resumes it in another thread, and a pause between the two would be undone."""
    await eventually(lambda: (execution.resumes, execution.state) == (times, "RUNNING"))


@pytest.mark.parametrize("trouble", ["cut", "hang"])
async def test_a_resume_whose_answer_got_lost_does_not_end_the_next_pause(
    opened: OpenedStore, kestra: FakeKestra, execution: FakeExecution, trouble: str
) -> None:
    lose = kestra.cut_next if trouble == "cut" else kestra.hang_next
    lose(method="POST", is_done=True)
    async with OneReplica(opened, try_within_s=3.0) as replica:
        await replica.resumer.subscribe(FIRST, EXECUTION)
        await replica.calls.merge(change_from(full_report()))
        await until_resumed(execution, 1)
        execution.pause()
        await replica.until_counted(resumed=1)
        assert (execution.resumes, execution.state, resumes_sent(kestra)) == (1, "PAUSED", 1)

        await replica.resumer.subscribe(SECOND, EXECUTION)
        await replica.calls.merge(change_from(full_report("call-2")))
        await replica.until_counted(resumed=2)

    assert execution.resumes == 2


async def test_whoever_takes_over_from_a_replica_that_died_does_not_end_the_next_pause(
    opened: OpenedStore, execution: FakeExecution
) -> None:
    dead = SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=300)
    await opened.store.merge(change_from(full_report()))
    await dead.subscribe(FIRST, EXECUTION)
    [claim] = (await dead.claim(bucket_of(FIRST), 1)).claims
    task_run = execution.task_runs[0]["id"].encode() if execution.shows_task_runs else b""
    assert await dead.note_pause(claim, 1, task_run)
    execution.resume({})
    execution.pause()

    async with OneReplica(opened) as replica:
        await replica.until_counted(resumed=1)

    assert (execution.resumes, execution.state) == (1, "PAUSED")


async def test_the_same_pause_is_tried_again_until_it_ends(
    opened: OpenedStore, kestra: FakeKestra, execution: FakeExecution
) -> None:
    kestra.cut_next(method="POST")
    kestra.answer_next(503, method="POST")
    async with OneReplica(opened) as replica:
        await replica.resumer.subscribe(FIRST, EXECUTION)
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)

    assert (execution.resumes, resumes_sent(kestra), replica.results["retried"] >= 2) == (1, 3, True)


async def test_a_pause_that_somebody_ended_before_the_record_was_final_is_not_taken_for_the_next_one(
    opened: OpenedStore, kestra: FakeKestra, execution: FakeExecution
) -> None:
    async with OneReplica(opened) as replica:
        await replica.resumer.subscribe(FIRST, EXECUTION)
        await asyncio.sleep(0.01)  # the clock has milliseconds
        execution.resume({})
        execution.pause()
        await replica.resumer.subscribe(SECOND, EXECUTION)
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)
        assert (execution.resumes, resumes_sent(kestra)) == (1, 0)

        await replica.calls.merge(change_from(full_report("call-2")))
        await replica.until_counted(resumed=2)

    assert (execution.resumes, resumes_sent(kestra)) == (2, 1)


async def test_a_second_pause_that_is_not_stored_yet_is_waited_for(
    opened: OpenedStore, execution: FakeExecution
) -> None:
    execution.resume({})
    await asyncio.sleep(0.01)  # the clock has milliseconds
    async with OneReplica(opened) as replica:
        await replica.calls.merge(change_from(full_report("call-2")))
        await replica.resumer.subscribe(SECOND, EXECUTION)
        await replica.until_counted(retried=1)
        execution.pause()
        await replica.until_counted(resumed=1)

    assert execution.resumes == 2


async def test_many_pauses_one_after_the_other_are_each_ended_once(
    opened: OpenedStore, kestra: FakeKestra, execution: FakeExecution
) -> None:
    async with OneReplica(opened) as one, OneReplica(opened) as two:
        for number in range(1, 6):
            call_id = f"call-{number}"
            await one.resumer.subscribe(call_id.encode(), EXECUTION)
            await two.calls.merge(change_from(status_update("ended", call_id)))
            await two.calls.merge(change_from(full_report(call_id)))
            await until_resumed(execution, number)
            execution.pause()

    assert (execution.resumes, execution.state, resumes_sent(kestra)) == (5, "PAUSED", 5)


async def test_what_a_replica_of_the_version_before_noted_is_resumed(
    opened: OpenedStore, execution: FakeExecution
) -> None:
    async with OneReplica(opened) as replica:
        await replica.resumer.subscribe(FIRST, EXECUTION)
        await opened.redis.hdel((opened.keys.subscriptions[bucket_of(FIRST)] + FIRST).decode(), "for:execution")
        await replica.calls.merge(change_from(full_report()))
        await replica.until_counted(resumed=1)

    assert execution.resumes == 1


async def test_a_try_that_lost_its_lease_resumes_nothing(opened: OpenedStore, execution: FakeExecution) -> None:
    hasty = SubscriptionStore(opened.settings, opened.pipeline, opened.keys, lease_ms=0)
    await opened.store.merge(change_from(full_report()))
    await hasty.subscribe(FIRST, EXECUTION)
    [slow] = (await hasty.claim(bucket_of(FIRST), 1)).claims
    [other] = (await hasty.claim(bucket_of(FIRST), 1)).claims

    assert not await hasty.note_pause(slow, 1, b"")
    assert await hasty.note_pause(other, 1, b"")
