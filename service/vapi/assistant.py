"""The assistant that makes the calls, as data: what it is asked to find out."""

from __future__ import annotations

from typing import Literal

import msgspec


class StructuredCallData(msgspec.Struct, kw_only=True):
    """What VAPI's analysis extracts from a call's transcript.

    VAPI's model fills this in: a real answer may lack keys, or hold null or text where another type was asked for.
    """

    availability: Literal["available", "unavailable", "callback_requested", "unclear"]
    earliest_availability: str
    """As it was said: "Tomorrow at 2pm", "Friday morning"."""
    estimated_rate: str
    single_person_found: bool
    technician_name: str | None = None
    all_criteria_met: bool
    criteria_details: dict[str, bool]
    disqualified: bool
    disqualification_reason: str | None = None
    call_outcome: Literal["positive", "negative", "neutral", "no_answer", "voicemail"]
    recommended: bool
    notes: str | None = None
