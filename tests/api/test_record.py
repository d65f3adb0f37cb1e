"""The record of a poll: its fields, their types, and what of a hand-made message ends up in them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import deliver, new_call_id, record_of
from tests.support.vapi_sender import full_report, message, preliminary_report, status_update

FIELDS = [
    "id", "call_id", "assistant_id", "phone_number_id", "customer_phone", "status", "ended_reason", "started_at",
    "ended_at", "duration_minutes", "transcript", "messages", "recording_url", "analysis_summary",
    "analysis_structured_data", "analysis_success_evaluation", "structured_outputs", "provider_name", "provider_phone",
    "service_type", "location", "user_criteria", "urgency", "service_request_id", "created_at", "updated_at",
    "data_status", "outcome", "retry", "customer_spoke", "call_type", "forwarded_to", "analysis_reliable", "cost",
    "metadata", "expires_at", "version",
]  # fmt: skip

BODY_OF_THE_ORIGINAL_DESIGN = b"""{
    "message": {
      "type": "end-of-call-report",
      "call": {
        "id": "test-call-123",
        "status": "ended",
        "endedReason": "assistant-ended-call",
        "customer": {
          "number": "+18641234567"
        },
        "startedAt": "2025-01-08T12:00:00Z",
        "endedAt": "2025-01-08T12:05:00Z",
        "transcript": "Test transcript",
        "analysis": {
          "summary": "Test summary",
          "structuredData": {
            "availability": "available",
            "estimated_rate": "$100/hour"
          }
        }
      }
    }
  }"""


async def test_the_original_designs_curl_gives_an_ended_record(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/vapi/webhooks/vapi", content=BODY_OF_THE_ORIGINAL_DESIGN)
    assert answer.json()["callId"] == "test-call-123"
    record = await record_of(client, "test-call-123")
    expected = {
        "status": "ended",
        "data_status": "complete",
        "outcome": "completed",
        "ended_reason": "assistant-ended-call",
        "customer_phone": "+18641234567",
        "started_at": "2025-01-08T12:00:00Z",
        "ended_at": "2025-01-08T12:05:00Z",
        "duration_minutes": 5,
        "transcript": {"text": "Test transcript"},
        "analysis_summary": "Test summary",
        "analysis_structured_data": {"availability": "available", "estimated_rate": "$100/hour"},
    }
    assert {name: record[name] for name in expected} == expected


@pytest.mark.parametrize(
    "body",
    [status_update("queued"), preliminary_report(), full_report(), message("speech-update")],
    ids=lambda b: b["message"]["type"],
)
async def test_every_record_has_every_field(client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
    call_id = new_call_id()
    await deliver(client, json.loads(json.dumps(body).replace("call-1", call_id)))
    assert sorted(await record_of(client, call_id)) == sorted(FIELDS)


async def test_the_id_follows_from_the_call_id_alone(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id))
    expected = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:vapi:call:{call_id}")
    assert (await record_of(client, call_id))["id"] == str(expected)


async def test_times_are_utc_and_a_final_record_lives_half_an_hour(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id))
    record = await record_of(client, call_id)
    created, updated, expires = (
        datetime.fromisoformat(record[name]) for name in ("created_at", "updated_at", "expires_at")
    )
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
    assert expires - updated == timedelta(minutes=30)


async def test_a_running_call_lives_longer_than_any_call_lasts(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("in-progress", call_id))
    record = await record_of(client, call_id)
    lives = datetime.fromisoformat(record["expires_at"]) - datetime.fromisoformat(record["updated_at"])
    assert lives == timedelta(hours=13)


async def test_version_and_updated_at_move_only_with_the_facts(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, status_update("queued", call_id), status_update("queued", call_id))
    same = await record_of(client, call_id)
    await deliver(client, status_update("ringing", call_id))
    changed = await record_of(client, call_id)
    assert (same["version"], changed["version"]) == (1, 2)
    assert changed["updated_at"] >= same["updated_at"] == same["created_at"]


@pytest.mark.parametrize(
    ("durations", "minutes"),
    [
        ({"durationSeconds": 90, "durationMs": 1, "durationMinutes": 7}, 1.5),
        ({"durationSeconds": None, "durationMs": 90_000}, 1.5),
        ({"durationSeconds": None, "durationMinutes": 1.499}, 1.5),
        ({"durationSeconds": None}, 0.44),
        ({"durationSeconds": None, "endedAt": "2026-09-01T11:00:00.000Z"}, None),
        ({"durationSeconds": 0}, 0),
    ],
)
async def test_the_duration_is_the_first_there_is_and_else_the_time_between(
    client: httpx2.AsyncClient, durations: dict[str, Any], minutes: float | None
) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, **durations))
    assert (await record_of(client, call_id))["duration_minutes"] == minutes


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("voicemail", "voicemail"),
        ("customer-busy", "busy"),
        ("customer-did-not-answer", "no_answer"),
        ("twilio-failed-to-connect-call", "no_answer"),
        ("sip-no-answer", "failed"),
        ("manually-canceled", "cancelled"),
        ("customer-ended-call-during-transfer", "completed"),
        ("silence-timed-out", "completed"),
        ("pipeline-error-of-2031", "failed"),
        (None, None),
    ],
)
async def test_the_outcome_follows_from_the_ended_reason(
    client: httpx2.AsyncClient, reason: str | None, outcome: str | None
) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, endedReason=reason))
    record = await record_of(client, call_id)
    assert (record["ended_reason"], record["outcome"]) == (reason, outcome)


async def test_metadata_is_merged_per_key_and_variables_stay_out_of_it(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    call = {
        "id": call_id,
        "metadata": {"a": 1, "b": ""},
        "assistantOverrides": {"metadata": {"b": 2}, "variableValues": {"providerName": "Ann", "x": "y"}},
    }
    await deliver(client, message("speech-update", call=call, assistant={"metadata": {"a": 9, "c": 3}}))
    record = await record_of(client, call_id)
    assert (record["metadata"], record["provider_name"]) == ({"a": 1, "b": 2, "c": 3}, "Ann")


@pytest.mark.parametrize(
    "spelling", [{"serviceNeeded": "plumber"}, {"serviceType": "plumber"}, {"service_type": "plumber"}]
)
async def test_the_callers_words_count_in_either_spelling(client: httpx2.AsyncClient, spelling: dict[str, str]) -> None:
    call_id = new_call_id()
    await deliver(client, message("speech-update", call={"id": call_id, "metadata": spelling}))
    assert (await record_of(client, call_id))["service_type"] == "plumber"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("https://a.example/r.wav?X-Amz-Signature=1&X-Amz-Expires=2", "https://a.example/r.wav"),
        ("https://a.example/r.wav?take=2", "https://a.example/r.wav?take=2"),
    ],
)
async def test_a_presigned_recording_loses_its_query(client: httpx2.AsyncClient, sent: str, kept: str) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, artifact={"recordingUrl": sent}))
    assert (await record_of(client, call_id))["recording_url"] == kept


async def test_a_report_without_a_transcript_has_no_reliable_analysis(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, full_report(call_id, artifact={}))
    assert (await record_of(client, call_id))["analysis_reliable"] is False


async def test_whatever_text_comes_in_goes_out_as_valid_unicode(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    call = {"id": call_id, "metadata": {"key \ud83d": "\udc4d value", "fine": "\ud83d\udc4d"}}
    await client.post(WEBHOOK, content=json.dumps(message("speech-update", call=call)).encode())
    answer = await client.get(CALLS + call_id)
    expected = {"key \ufffd": "\ufffd value", "fine": "\U0001f44d"}
    assert json.loads(answer.content.decode())["data"]["metadata"] == expected
