"""Deleting a call: it is and stays gone whatever still comes for it."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import deliver, list_calls, new_call_id, poll_at_once, stats_of
from tests.support.vapi_sender import full_report, status_update


async def test_a_delete_says_what_it_removed(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.delete(CALLS + call_id)
    assert (answer.status_code, answer.json()["success"], answer.json()["callId"]) == (200, True, call_id)
    assert isinstance(answer.json()["message"], str)
    assert (await client.get(CALLS + call_id)).status_code == 404


async def test_there_is_nothing_to_delete_the_second_time(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    await client.delete(CALLS + call_id)
    answer = await client.delete(CALLS + call_id)
    assert (answer.status_code, answer.json()["success"]) == (404, False)


@pytest.mark.parametrize("before", [[], ["queued", "in-progress"]], ids=["unknown", "known"])
async def test_a_late_report_is_acknowledged_and_brings_nothing_back(
    client: httpx2.AsyncClient, before: list[str]
) -> None:
    call_id = new_call_id()
    await deliver(client, *(status_update(status, call_id) for status in before))
    await client.delete(CALLS + call_id)
    answer = await client.post(WEBHOOK, json=full_report(call_id))
    assert (answer.status_code, answer.json()["callId"]) == (200, call_id)
    assert (await client.get(CALLS + call_id)).status_code == 404


async def test_a_waiting_poll_for_a_deleted_call_is_404_at_once(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await client.delete(CALLS + call_id)
    assert (await poll_at_once(client, call_id)).status_code == 404


async def test_a_deleted_call_is_in_no_list(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, customer={"number": "+18645550155"}))
    await client.delete(CALLS + call_id)
    assert (await list_calls(client, "+18645550155")).json()["count"] == 0
    assert call_id not in [entry["callId"] for entry in (await stats_of(client, 100))["entries"]]


async def test_a_malformed_call_id_cannot_be_deleted(client: httpx2.AsyncClient) -> None:
    assert (await client.delete(CALLS + "a b")).status_code == 400
