"""What we ask VAPI's model to extract from a call. Only this module names the fields and the structured outputs."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

SUMMARY_OUTPUT: Final = "call_summary"
RESULT_OUTPUT: Final = "call_result"
SUCCESS_OUTPUT: Final = "call_success"


class StructuredCallData(msgspec.Struct, kw_only=True):
    """What VAPI's analysis extracts from a call's transcript.

    VAPI's model fills this in: a real answer may lack keys, or hold null or text where another type was asked for.
    """

    availability: Annotated[
        Literal["available", "unavailable", "callback_requested", "unclear"],
        Meta(description="available only if they offered to do this very work; unclear if nobody said either"),
    ]
    earliest_availability: Annotated[
        str, Meta(description='The earliest day and time, as it was said: "Tomorrow at 2pm"; empty if none was')
    ]
    estimated_rate: Annotated[
        str, Meta(description='What they charge, as it was said, fees included: "$100/hour plus $50"; empty if unknown')
    ]
    single_person_found: Annotated[
        bool, Meta(description="true only if they said that one and the same person meets all criteria")
    ]
    technician_name: Annotated[str | None, Meta(description="That person's name; leave it out if none was said")] = None
    all_criteria_met: Annotated[bool, Meta(description="true only if they said yes to each of the client's criteria")]
    criteria_details: Annotated[
        dict[str, bool],
        Meta(
            description="One key for each of the client's criteria, in a few words; its value is true if they said yes "
            "to it, false if they said no or did not say"
        ),
    ]
    disqualified: Annotated[
        bool,
        Meta(
            description="true if they have nobody available, cannot meet a criterion, do not do this work or charge "
            "significantly more than is reasonable"
        ),
    ]
    disqualification_reason: Annotated[
        str | None, Meta(description="Why, in one sentence; leave it out unless disqualified")
    ] = None
    call_outcome: Annotated[
        Literal["positive", "negative", "neutral", "no_answer", "voicemail"],
        Meta(description="positive: they can help; negative: they cannot; neutral: a person answered, but it is open"),
    ]
    recommended: Annotated[
        bool, Meta(description="true only if they are available in time, meet all criteria and are not disqualified")
    ]
    notes: Annotated[str | None, Meta(description="What else the client should know; leave it out if nothing")] = None
