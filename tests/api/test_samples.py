"""Each sample body is taken, and ends in the record that its line in tests/samples/vapi/README.md promises."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.routes import WEBHOOK
from tests.support.service_api import deliver, new_call_id, record_of
from tests.support.vapi_sender import sample, sample_names

RESULTS = ("started_at", "ended_at", "duration_minutes", "transcript", "messages", "recording_url", "analysis_summary")


@pytest.mark.parametrize("name", sample_names())
async def test_every_sample_is_acknowledged(client: httpx2.AsyncClient, name: str) -> None:
    body = sample(name, new_call_id())
    answer = await client.post(WEBHOOK, json=body)
    assert answer.status_code == 200
    assert answer.json()["message"] == f"Webhook processed: {body['message']['type']}"


async def taken(client: httpx2.AsyncClient, *names: str) -> dict[str, Any]:
    """The record after these samples, all of one call."""
    call_id = new_call_id()
    await deliver(client, *(sample(name, call_id) for name in names))
    return await record_of(client, call_id)


@pytest.mark.parametrize("status", ["scheduled", "queued", "ringing", "in-progress", "forwarding", "ended"])
async def test_a_status_update_gives_its_own_status_and_not_the_snapshots(
    client: httpx2.AsyncClient, status: str
) -> None:
    record = await taken(client, f"outbound-status-update-{status}")
    # The snapshot says queued, which is the least that is true.
    assert record["status"] == ("queued" if status == "scheduled" else status)
    assert record["data_status"] == ("partial" if status == "ended" else "pending")


async def test_a_status_update_gives_context_and_no_results(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-status-update-ended")
    assert (record["customer_phone"], record["ended_reason"]) == ("+18645550123", "assistant-ended-call")
    assert [record[name] for name in RESULTS] == [None] * len(RESULTS)


async def test_the_preliminary_report_leaves_the_record_partial(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-preliminary")
    assert (record["status"], record["data_status"], record["outcome"]) == ("ended", "partial", "completed")
    assert (record["duration_minutes"], record["analysis_reliable"]) == (0.44, None)
    assert record["transcript"]["text"].startswith("AI: Hi, this is an AI assistant")


async def test_the_full_report_completes_what_the_preliminary_one_began(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-preliminary", "outbound-end-of-call-report-full")
    assert (record["data_status"], record["analysis_reliable"], record["version"]) == ("complete", True, 2)


async def test_the_full_report_gives_everything_at_once(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-full")
    metadata = sample("outbound-end-of-call-report-full")["message"]["call"]["metadata"]
    expected = {
        "status": "ended",
        "data_status": "complete",
        "outcome": "completed",
        "ended_reason": "assistant-ended-call",
        "started_at": "2026-09-01T12:00:19.000Z",
        "ended_at": "2026-09-01T12:00:45.260Z",
        "duration_minutes": 0.44,
        "cost": 0.1187,
        "customer_phone": "+18645550123",
        "phone_number_id": "22222222-2222-4222-8222-222222222222",
        "provider_name": "Acme Plumbing & Söhne",
        "service_type": "plumber",
        "location": "Greenville, SC",
        "urgency": "within_24_hours",
        "analysis_success_evaluation": "true",
        "metadata": metadata,
    }
    assert {name: record[name] for name in expected} == expected
    assert record["transcript"]["text"].endswith("Sounds good. 👍 Merci beaucoup, à demain.\n")
    assert len(record["messages"]) == 9
    assert record["analysis_structured_data"]["estimated_rate"] == "$120/hour"
    assert set(record["structured_outputs"]) == {"ProviderOutcome", "Call Summary", "CSAT"}
    assert record["recording_url"].endswith("-mono.wav")


async def test_the_same_report_delivered_again_changes_nothing(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-full", "outbound-end-of-call-report-full-redelivered")
    assert record["version"] == 1


async def test_a_call_that_never_connected_is_complete_and_empty(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-no-answer-minimal")
    assert (record["data_status"], record["outcome"], record["cost"]) == ("complete", "no_answer", 0)
    assert (record["analysis_reliable"], record["analysis_summary"]) == (False, None)
    assert (record["duration_minutes"], record["transcript"], record["messages"]) == (None, None, None)


async def test_a_voicemails_analysis_is_not_to_be_trusted(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "outbound-end-of-call-report-voicemail")
    assert (record["data_status"], record["outcome"], record["analysis_reliable"]) == ("complete", "voicemail", False)


async def test_every_known_odd_type_is_survived_in_one_message(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "end-of-call-report-odd-types")
    assert (record["status"], record["data_status"], record["outcome"]) == ("ended", "complete", "failed")
    assert record["ended_reason"] == "call.in-progress.error-brand-new-2027-reason"
    assert (record["cost"], record["analysis_success_evaluation"]) == (0.12, "true")
    assert record["analysis_structured_data"] == [{"availability": "available"}]
    assert record["recording_url"] == "https://example.invalid/flat-string.wav"
    assert record["messages"][1] == "not-an-object"
    assert record["customer_phone"] == "+18645550123"


@pytest.mark.parametrize("name", ["hang", "call.artifact.upload", "transcript-partial", "transcript-final"])
async def test_the_other_messages_give_context_and_end_nothing(client: httpx2.AsyncClient, name: str) -> None:
    record = await taken(client, name)
    assert (record["status"], record["data_status"]) == ("queued", "pending")
    assert record["provider_name"] == "Acme Plumbing & Söhne"
    assert [record[result] for result in RESULTS] == [None] * len(RESULTS)


async def test_an_unknown_type_begins_an_empty_record(client: httpx2.AsyncClient) -> None:
    record = await taken(client, "unknown-future-type")
    assert (record["status"], record["data_status"], record["metadata"]) == (None, "pending", {})


async def test_a_session_without_a_call_is_kept_nowhere(client: httpx2.AsyncClient) -> None:
    answer = await client.post(WEBHOOK, json=sample("session.created-no-call"))
    assert answer.json()["callId"] is None


@pytest.mark.parametrize("secret", ["MUST-NOT-BE-STORED", "twilio", "X-Amz-Signature", "controlUrl", "listenUrl"])
async def test_no_secret_of_a_body_comes_back(client: httpx2.AsyncClient, secret: str) -> None:
    call_id = new_call_id()
    await deliver(client, sample("outbound-end-of-call-report-full", call_id))
    answer = await client.get("/api/v1/vapi/calls/" + call_id)
    assert secret not in answer.text
