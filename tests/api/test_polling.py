"""A poll: plain or waiting, by query or ``Prefer``, in either view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import (
    READER,
    connected,
    deliver,
    new_call_id,
    raw_connection,
    read_answer,
    record_of,
    request_head,
)
from tests.support.vapi_sender import full_report, preliminary_report, status_update


async def test_a_plain_poll_gets_a_running_call_as_it_stands(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    answer = await client.get(CALLS + call_id)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert answer.json()["data"]["status"] == "in-progress"
    assert "retry-after" not in answer.headers


async def test_a_plain_poll_for_an_unknown_call_is_404(client: httpx2.AsyncClient) -> None:
    answer = await client.get(CALLS + new_call_id())
    assert (answer.status_code, answer.json()) == (404, {"success": False, "error": "Call result not found"})


@pytest.mark.parametrize("wait", ["0", "0.0", "0.2", ".2", "1.", "15"])
async def test_a_final_record_is_answered_whatever_the_wait(client: httpx2.AsyncClient, wait: str) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.get(CALLS + call_id, params={"wait": wait})
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")


@pytest.mark.parametrize("wait", ["0", "0.2"])
async def test_a_waiting_poll_for_an_unknown_call_is_202_and_never_404(client: httpx2.AsyncClient, wait: str) -> None:
    call_id = new_call_id()
    answer = await client.get(CALLS + call_id, params={"wait": wait})
    expected = {"call_id": call_id, "status": None, "data_status": "pending", "updated_at": None}
    assert (answer.status_code, answer.json()) == (202, {"success": True, "data": expected})
    assert int(answer.headers["retry-after"]) >= 0


@pytest.mark.parametrize("wait", ["0", "0.2"])
@pytest.mark.parametrize(
    ("body", "status", "data_status"),
    [(status_update("ringing"), "ringing", "pending"), (preliminary_report(), "ended", "partial")],
    ids=["pending", "partial"],
)
async def test_a_waiting_poll_for_a_call_that_is_not_final_is_202_with_what_is_known(
    client: httpx2.AsyncClient, wait: str, body: dict[str, Any], status: str, data_status: str
) -> None:
    call_id = new_call_id()
    body["message"]["call"] = {"id": call_id}
    await deliver(client, body)
    answer = await client.get(CALLS + call_id, params={"wait": wait})
    known = {"call_id": call_id, "status": status, "data_status": data_status}
    updated_at = (await record_of(client, call_id))["updated_at"]
    assert (answer.status_code, answer.json()["data"]) == (202, {**known, "updated_at": updated_at})
    assert "retry-after" in answer.headers
    assert "etag" in answer.headers


@pytest.mark.parametrize("prefer", ["wait=0.1", "WAIT = 0.1", "respond-async, wait=0.1", 'wait="0.1"', "wait=0.1; x=y"])
async def test_prefer_waits_as_well_and_is_echoed(client: httpx2.AsyncClient, prefer: str) -> None:
    answer = await client.get(CALLS + new_call_id(), headers={"Prefer": prefer})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0.1")


async def test_prefer_is_echoed_with_a_final_record_too(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.get(CALLS + call_id, headers={"Prefer": "wait=3"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=3")


@pytest.mark.parametrize(
    "prefer",
    [
        "wait", "wait=", "wait=-1", "wait=x", "wait=1.2.3", "waiting=1", "return=minimal", ",,", 'wait="1', 'wait=1"',
        'note=",wait=1"', 'note=";wait=1;"',
    ],
)  # fmt: skip
async def test_a_malformed_prefer_is_ignored(client: httpx2.AsyncClient, prefer: str) -> None:
    answer = await client.get(CALLS + new_call_id(), headers={"Prefer": prefer})
    assert answer.status_code == 404
    assert "preference-applied" not in answer.headers


async def test_prefer_counts_on_whichever_of_its_lines_the_wait_stands(open_replica: Replica) -> None:
    async with raw_connection(open_replica) as (reader, writer):
        head = request_head("GET", CALLS + new_call_id(), prefer="wait=0.1")
        writer.write(head[:-2] + b"prefer: respond-async\r\n\r\n")
        assert (await read_answer(reader)).status == 202


async def test_a_wait_is_capped_and_the_echo_of_prefer_says_to_what(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(max_wait_s=1)) as client:
        assert (await client.get(CALLS + new_call_id(), params={"wait": "600"})).status_code == 202
        answer = await client.get(CALLS + new_call_id(), headers={"Prefer": "wait=600"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")


@pytest.mark.parametrize("wait", ["", "-1", "-0.1", "x", "1s", "nan", "inf", "1e1", "0x1", "1,5", " 1", "١"])
async def test_a_malformed_wait_is_refused(client: httpx2.AsyncClient, wait: str) -> None:
    answer = await client.get(CALLS + new_call_id(), params={"wait": wait})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "wait")


async def test_any_number_of_seconds_is_capped_and_not_refused(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.get(CALLS + call_id, params={"wait": "86400000000"})
    assert answer.status_code == 200


@pytest.mark.parametrize("view", ["", "Full", "short", "summary,full"])
async def test_an_unknown_view_is_refused(client: httpx2.AsyncClient, view: str) -> None:
    answer = await client.get(CALLS + new_call_id(), params={"view": view})
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "view")


@pytest.mark.parametrize("call_id", [".x", "a b", "a%0Ab", "%C3%A9", "x" * 129, "a:b", "%00"])
@pytest.mark.parametrize("query", ["", "?wait=0"])
async def test_a_malformed_call_id_is_refused(client: httpx2.AsyncClient, call_id: str, query: str) -> None:
    answer = await client.get(CALLS + call_id + query)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


async def test_the_summary_leaves_out_the_two_large_fields_and_nothing_else(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    full, summary = await record_of(client, call_id, view="full"), await record_of(client, call_id, view="summary")
    assert full.pop("messages")
    assert full.pop("transcript")
    assert summary == full


async def test_a_waiting_poll_may_ask_for_the_summary(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    answer = await client.get(CALLS + call_id, params={"wait": "1", "view": "summary"})
    assert answer.status_code == 200
    assert "messages" not in answer.json()["data"]


async def test_the_original_shell_loops_field_says_ended_before_the_report(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("ended", call_id))
    record = await record_of(client, call_id)
    assert (record["status"], record["data_status"]) == ("ended", "partial")


async def test_a_webhook_taken_by_redis_is_polled_from_redis(stranger: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(stranger, full_report(call_id), **{"X-Vapi-Secret": "a-webhook-secret"})
    answer = await stranger.get(CALLS + call_id, headers=READER)
    assert (answer.status_code, answer.json()["data"]["data_status"]) == (200, "complete")
