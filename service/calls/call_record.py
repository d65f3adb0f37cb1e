"""The fields of the call record, as callers see them. record.py renders it; api/openapi describes it from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.calls.ended_reasons import Outcome, Retry
from service.calls.status import STATUSES

DataStatusName = Literal["pending", "partial", "complete", "fetch_failed"]
StatusName = Annotated[str | None, Meta(extra_json_schema={"enum": [*STATUSES, None]})]
Moment = Annotated[str, Meta(examples=["2026-09-01T12:00:50.000Z"])]
"""ISO 8601, UTC."""


class Transcript(msgspec.Struct):
    text: str


class CallRecord(msgspec.Struct, kw_only=True):
    """The result of one call, as a poll returns it under ``data``. Times are ISO 8601 in UTC."""

    id: Annotated[
        str, Meta(description="UUIDv5 of `urn:vapi:call:<call_id>` in the URL namespace: the same on every replica")
    ]
    call_id: str
    assistant_id: str | None
    phone_number_id: str | None
    customer_phone: Annotated[str | None, Meta(description="E.164 where possible")]
    status: Annotated[StatusName, Meta(description="VAPI's; it never moves back. Null while no message has said")]
    ended_reason: Annotated[str | None, Meta(description="VAPI's; there are over 600, and the list grows")]
    started_at: Moment | None
    ended_at: Moment | None
    duration_minutes: float | None
    transcript: Annotated[Transcript | None, Meta(description="Not in the summary view")] = None
    messages: Annotated[list[Any] | None, Meta(description="As VAPI sent them; not in the summary view")] = None
    recording_url: Annotated[
        str | None, Meta(description="The plain address. VAPI may refuse it: get a link from the recording route")
    ]
    analysis_summary: str | None
    analysis_structured_data: Any
    analysis_success_evaluation: str | None
    structured_outputs: Annotated[dict[str, Any] | None, Meta(description="VAPI's structured outputs by name")]
    provider_name: str | None
    provider_phone: str | None
    service_type: str | None
    location: str | None
    user_criteria: str | None
    urgency: str | None
    service_request_id: str | None
    created_at: Moment
    updated_at: Annotated[Moment, Meta(description="When what the record shows last changed, `expires_at` aside")]
    data_status: Annotated[
        DataStatusName,
        Meta(
            description="pending: the call runs. partial: it is over, its report or its analysis is not here yet. "
            "complete, fetch_failed: final; nothing more is expected"
        ),
    ]
    outcome: Annotated[Outcome | None, Meta(description="What `ended_reason` comes down to; null while pending")]
    retry: Annotated[
        Retry | None, Meta(description="Whether to call again: later, soon, or after somebody has fixed something")
    ]
    customer_spoke: Annotated[bool | None, Meta(description="Whether the person on the line said anything")]
    call_type: Annotated[str | None, Meta(description="inboundPhoneCall, outboundPhoneCall, webCall, ...")]
    forwarded_to: Annotated[str | None, Meta(description="Number or SIP address")]
    analysis_reliable: Annotated[
        bool | None,
        Meta(
            description="False when VAPI's analysis is about a conversation that did not take place: after voicemail, "
            "busy and no_answer, and whenever the customer did not speak. Null until the record is final"
        ),
    ]
    cost: Annotated[float | None, Meta(description="US dollars")]
    metadata: Annotated[dict[str, Any], Meta(description="The caller's own")]
    expires_at: Moment
    version: Annotated[int, Meta(description="Grows whenever what the record shows changes, `expires_at` aside")]


class PendingCall(msgspec.Struct):
    """What a poll that waited returns under ``data`` while the record is not final."""

    call_id: str
    status: StatusName
    data_status: DataStatusName
    updated_at: Annotated[Moment | None, Meta(description="Null when nobody has heard of the call yet")]
