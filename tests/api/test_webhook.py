"""Taking a webhook: what is acknowledged, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.routes import BOTH_WEBHOOKS, WEBHOOK
from tests.support.service_api import deliver, new_call_id, raw_connection, read_answer, record_of, request_head
from tests.support.vapi_sender import full_report, message, status_update


@pytest.mark.parametrize("path", BOTH_WEBHOOKS)
async def test_both_paths_take_a_message_and_say_what_they_took(client: httpx2.AsyncClient, path: str) -> None:
    call_id = new_call_id()
    answer = await client.post(path, json=status_update("ringing", call_id))
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "message": "Webhook processed: status-update", "callId": call_id},
    )
    assert (await record_of(client, call_id))["status"] == "ringing"


async def test_a_message_without_a_call_is_acknowledged_with_a_null_call_id(client: httpx2.AsyncClient) -> None:
    answer = await client.post(WEBHOOK, json=message("session.created", None, session={"id": "s"}))
    assert (answer.status_code, answer.json()["callId"]) == (200, None)


@pytest.mark.parametrize(
    "call", [None, {}, {"id": None}, {"id": ""}, {"id": "a b"}, {"id": ".x"}, {"id": "x" * 129}, "x", 7]
)
async def test_other_types_without_a_usable_call_id_are_acknowledged(client: httpx2.AsyncClient, call: Any) -> None:
    answer = await client.post(WEBHOOK, json=message("speech-update", call=call))
    assert (answer.status_code, answer.json()["callId"]) == (200, None)


@pytest.mark.parametrize("type_", ["status-update", "end-of-call-report"])
@pytest.mark.parametrize(
    "call", [None, {}, {"id": None}, {"id": ""}, {"id": "a b"}, {"id": ".x"}, {"id": "x" * 129}, {"id": {}}, "x"]
)
async def test_a_status_or_report_without_a_usable_call_id_is_refused(
    client: httpx2.AsyncClient, type_: str, call: Any
) -> None:
    answer = await client.post(WEBHOOK, json=message(type_, call=call))
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (400, "$.message.call.id")


@pytest.mark.parametrize("call_id", ["x" * 128, "_a", "-a", "9", "a.b-c_d", "0" * 30])
async def test_any_id_of_the_documented_form_names_a_call(client: httpx2.AsyncClient, call_id: str) -> None:
    await deliver(client, status_update("queued", call_id))
    assert (await record_of(client, call_id))["call_id"] == call_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"message":{"type":"hang"}',
        b'{"message":{"type":"hang","cost":NaN}}',
        b'{"message":{"type":"hang","cost":Infinity}}',
        b'{"message":{"type":"hang","x":"\xff\xfe"}}',
        b'{"message":{"type":"hang","x":' + b"[" * 1000 + b"]" * 1000 + b"}}",
        b"[" * 1_000_000,
        b"[]",
        b"null",
        b'"message"',
        b"{}",
        b'{"message":null}',
        b'{"message":[]}',
        b'{"message":{}}',
        b'{"message":{"type":null}}',
        b'{"message":{"type":7}}',
    ],
)
async def test_what_is_no_server_message_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(WEBHOOK, content=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


async def test_a_refusal_never_quotes_the_request(client: httpx2.AsyncClient) -> None:
    body = message("end-of-call-report", call={"id": "private words"}, transcript="private words")
    answer = await client.post(WEBHOOK, json=body)
    assert answer.status_code == 400
    assert "private" not in answer.text


async def test_nesting_of_128_levels_is_accepted(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    deep = json.loads("[" * 120 + "]" * 120)
    await deliver(client, full_report(call_id, artifact={"messages": [deep]}))
    assert (await record_of(client, call_id))["messages"] == [deep]


async def test_a_text_cut_through_an_emoji_is_kept_with_a_replacement_character(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    body = json.dumps(full_report(call_id, artifact={"transcript": "Merci \ud83d"}))
    assert (await client.post(WEBHOOK, content=body.encode())).status_code == 200
    assert (await record_of(client, call_id))["transcript"] == {"text": "Merci \ufffd"}


async def test_an_unheard_of_type_gives_a_record_its_context(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, message("call.brand-new", call_id, customer={"number": "+18645550177"}))
    assert (await record_of(client, call_id))["customer_phone"] == "+18645550177"


async def test_an_odd_field_is_dropped_and_counted_and_the_rest_is_kept(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, cost={"odd": True}, durationSeconds="90"))
    record = await record_of(client, call_id)
    assert (record["cost"], record["duration_minutes"]) == (None, 1.5)
    assert "vapi_fields_dropped_total" in (await client.get("/metrics")).text


async def test_a_duplicate_is_acknowledged_and_changes_nothing(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    before = await record_of(client, call_id)
    await deliver(client, full_report(call_id))
    after = await record_of(client, call_id)
    assert {**after, "expires_at": None} == {**before, "expires_at": None}


async def test_a_late_status_is_acknowledged_and_never_moves_the_call_back(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id), status_update("ringing", call_id))
    assert (await record_of(client, call_id))["status"] == "ended"


async def test_a_transcript_fragment_is_no_result(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, message("transcript", call_id, transcript="half a sent"))
    record = await record_of(client, call_id)
    assert (record["transcript"], record["data_status"]) == (None, "pending")


@pytest.mark.parametrize("snapshot", ["in-progress", "forwarding", "ended"])
async def test_a_snapshot_says_nothing_beyond_ringing(client: httpx2.AsyncClient, snapshot: str) -> None:
    call_id = new_call_id()
    await deliver(client, message("speech-update", call={"id": call_id, "status": snapshot}))
    assert (await record_of(client, call_id))["status"] is None


async def test_a_status_update_without_a_status_takes_the_snapshot_as_it_is(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, message("status-update", call={"id": call_id, "status": "in-progress"}))
    assert (await record_of(client, call_id))["status"] == "in-progress"


async def test_a_whole_body_is_read_although_it_offers_another_protocol(open_replica: Replica) -> None:
    """As Java's HTTP client does on every first request without TLS."""
    call_id = new_call_id()
    body = json.dumps(status_update("queued", call_id)).encode()
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQAAP__"}
    async with raw_connection(open_replica) as (reader, writer):
        writer.write(request_head("POST", WEBHOOK, content_length=len(body), **offer) + body)
        assert (await read_answer(reader)).status == 200
