"""Examples that several operations share: one call, from its request to its record."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service.api.openapi.bodies import ServedRecord
from service.calls.call_record import Transcript

A_CALL_ID: Final = "0199a4f2-7c1e-7aa0-b5a4-3f5e1c2d9b10"
A_PHONE: Final = "+18645550123"
AN_ETAG: Final = '"19a1b2c3d40-3-f"'
A_BATCH_ID: Final = "9f1c2ab34de5670890abcdef12345678"

A_CALL_REQUEST: Final = {
    "providerName": "Acme Plumbing",
    "providerPhone": A_PHONE,
    "serviceNeeded": "replace a water heater",
    "userCriteria": "licensed; insured; can come on a weekend",
    "location": "Greenville, SC",
    "urgency": "within_2_days",
}


def a_record() -> ServedRecord:
    """A call that was answered, with its report."""
    return ServedRecord(
        id="5f0b3a86-9a0f-5c1e-8f6d-2b7a41c9d3e0",
        call_id=A_CALL_ID,
        assistant_id=None,
        phone_number_id="c2b7d1c0-5c1b-4d34-9a2e-0f6a1b2c3d4e",
        customer_phone=A_PHONE,
        status="ended",
        ended_reason="assistant-ended-call",
        started_at="2026-09-01T12:00:05.000Z",
        ended_at="2026-09-01T12:02:35.000Z",
        duration_minutes=2.5,
        transcript=Transcript("AI: Hello, is this Acme Plumbing?\nUser: Yes, it is."),
        messages=[
            {"role": "bot", "message": "Hello, is this Acme Plumbing?"},
            {"role": "user", "message": "Yes, it is."},
        ],
        recording_url="https://storage.example/recording.wav",
        analysis_summary="Acme Plumbing can come on Saturday morning.",
        analysis_structured_data={"availability": "available", "disqualified": False, "recommended": True},
        analysis_success_evaluation="true",
        structured_outputs=None,
        provider_name="Acme Plumbing",
        provider_phone=A_PHONE,
        service_type="replace a water heater",
        location="Greenville, SC",
        user_criteria="licensed; insured; can come on a weekend",
        urgency="within_2_days",
        service_request_id=None,
        created_at="2026-09-01T12:00:00.000Z",
        updated_at="2026-09-01T12:02:40.000Z",
        data_status="complete",
        outcome="completed",
        retry=None,
        customer_spoke=True,
        call_type="outboundPhoneCall",
        forwarded_to=None,
        analysis_reliable=True,
        cost=0.18,
        metadata={"providerName": "Acme Plumbing"},
        expires_at="2026-09-01T12:32:40.000Z",
        version=3,
    )


def a_summary() -> Any:
    """The same record in the summary view."""
    record = msgspec.to_builtins(a_record())
    return {name: value for name, value in record.items() if name not in ("transcript", "messages")}
