"""Long polls that are parked: what wakes them, and what becomes of those whose poller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import (
    connected,
    deliver,
    new_call_id,
    parked_poll,
    polls_parked,
    raw_connection,
    record_of,
    request_head,
    stats_of,
)
from tests.support.vapi_sender import full_report, preliminary_report, status_update


async def test_the_report_wakes_a_poll_for_a_call_nobody_had_heard_of(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    async with parked_poll(client, call_id) as poll:
        await deliver(client, full_report(call_id))
        answer = await poll
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")


async def test_a_status_on_the_way_does_not_end_the_wait(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    async with parked_poll(client, call_id) as poll:
        await deliver(client, status_update("in-progress", call_id), status_update("ended", call_id))
        await polls_parked(client, 1)
        assert not poll.done()
        await deliver(client, full_report(call_id))
        assert (await poll).status_code == 200


async def test_the_webhook_wakes_every_poll_of_its_call_and_no_other(client: httpx2.AsyncClient) -> None:
    call_id, other_id = new_call_id(), new_call_id()
    async with parked_poll(client, other_id) as other:
        polls = [asyncio.ensure_future(client.get(CALLS + call_id, params={"wait": "15"})) for _ in range(20)]
        await polls_parked(client, 21)
        await deliver(client, full_report(call_id))
        assert [answer.status_code for answer in await asyncio.gather(*polls)] == [200] * 20
        assert not other.done()


async def test_a_delete_answers_a_parked_poll_with_404(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    async with parked_poll(client, call_id) as poll:
        assert (await client.delete(CALLS + call_id)).status_code == 200
        answer = await poll
    assert (answer.status_code, answer.json()["error"]) == (404, "Call result not found")


async def test_a_delete_of_an_unknown_analysis_schema_its_parked_polls_too(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    async with parked_poll(client, call_id) as poll:
        assert (await client.delete(CALLS + call_id)).status_code == 404
        assert (await poll).status_code == 404


@pytest.mark.parametrize("end_of", [lambda i: status_update("ended", i), preliminary_report], ids=["status", "report"])
async def test_the_end_of_the_report_grace_wakes_a_parked_poll(
    brief_client: httpx2.AsyncClient, end_of: Callable[[str], dict[str, Any]]
) -> None:
    call_id = new_call_id()
    await deliver(brief_client, end_of(call_id))
    before = await record_of(brief_client, call_id)
    answer = await brief_client.get(CALLS + call_id, params={"wait": "20"})
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "fetch_failed")
    assert answer.json()["data"]["version"] == before["version"] + 1


async def test_a_poll_parked_before_the_end_is_woken_by_the_end_of_the_grace(brief_client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    async with parked_poll(brief_client, call_id) as poll:
        await deliver(brief_client, status_update("ended", call_id))
        answer = await poll
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "fetch_failed")


async def test_a_full_report_after_the_grace_still_completes_the_record(brief_client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(brief_client, preliminary_report(call_id))
    await brief_client.get(CALLS + call_id, params={"wait": "20"})
    await deliver(brief_client, full_report(call_id))
    record = await record_of(brief_client, call_id)
    assert (record["data_status"], record["analysis_reliable"]) == ("complete", True)


async def test_one_poll_is_woken_although_the_other_pollers_left(
    client: httpx2.AsyncClient, open_replica: Replica
) -> None:
    call_id = new_call_id()
    async with parked_poll(client, call_id) as poll:
        async with connected(open_replica) as leaving:
            gone = asyncio.ensure_future(leaving.get(CALLS + call_id, params={"wait": "15"}))
            await polls_parked(client, 2)
            gone.cancel()
        await polls_parked(client, 1)
        await deliver(client, full_report(call_id))
        assert (await poll).status_code == 200


async def test_a_poller_that_goes_away_is_forgotten(client: httpx2.AsyncClient, open_replica: Replica) -> None:
    await polls_parked(client, 0)
    async with raw_connection(open_replica) as (_, writer):
        writer.write(request_head("GET", CALLS + new_call_id() + "?wait=20"))
        await polls_parked(client, 1)
    await polls_parked(client, 0)


async def test_a_poller_that_goes_away_with_more_requests_behind_is_forgotten_too(
    client: httpx2.AsyncClient, open_replica: Replica
) -> None:
    await polls_parked(client, 0)
    async with raw_connection(open_replica) as (_, writer):
        writer.write(request_head("GET", CALLS + new_call_id() + "?wait=20") * 3)
        await polls_parked(client, 1)
    await polls_parked(client, 0)


async def test_the_deadline_answers_a_parked_poll_with_202(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    async with parked_poll(client, call_id, wait="3") as poll:
        answer = await poll
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "queued")


async def test_a_shutdown_answers_parked_polls_with_202(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    async with connected(replica) as client, parked_poll(client, new_call_id()) as poll:
        replica.terminate()
        answer = await poll
    assert (answer.status_code, answer.headers["connection"]) == (202, "close")


async def test_one_odd_record_does_not_keep_others_from_the_end_of_their_grace(
    start_replica: Callable[..., Replica],
) -> None:
    async with connected(start_replica(report_grace_s=0.5)) as client:
        odd = {"startedAt": "2026-09-01T12:00:00.000Z", "endedAt": "9999-12-31T23:59:59.9999999Z"}
        await deliver(client, preliminary_report("odd", **odd), preliminary_report("usual"))

        async def are_both_counted() -> bool:
            # Nobody reads the two records: only the sweep can have ended their grace.
            return bool((await stats_of(client, 0))["calls"]["ended"] == 2)

        await eventually(are_both_counted)


async def test_a_time_that_cannot_be_rounded_breaks_neither_webhook_nor_poll(
    start_replica: Callable[..., Replica],
) -> None:
    async with connected(start_replica()) as client:
        await deliver(client, full_report("odd", durationSeconds=None, endedAt="9999-12-31T23:59:59.9999999Z"))
        assert (await client.get(CALLS + "odd")).status_code == 200
