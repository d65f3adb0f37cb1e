"""The facts of a call: their names and their order.

A new fact is one line in Facts and one where it is read from VAPI (vapi/results.py or vapi/context.py, with its field in
vapi/messages.py). Put a small one last before the large ones: stored facts have no names, only their order
(store/call_codec.py). One that the record shows is also a field of CallRecord, with an example in
api/openapi/examples.py, and a column of the archive, which needs a migration.
"""

from __future__ import annotations

import re
from typing import Final, TypedDict

BLANK: Final = re.compile(r"[\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff]*")
"""White space of any language, and characters that show nothing: zero-width ones, marks of direction, blank glyphs."""


class Facts(TypedDict, total=False):
    """The facts that one message gives of its call, each as JSON text. Empty values are no facts, nor is blank text."""

    customer_phone: bytes
    ended_reason: bytes
    assistant_id: bytes
    phone_number_id: bytes
    started_at: bytes
    ended_at: bytes
    duration_minutes: bytes
    recording_url: bytes
    analysis_summary: bytes
    analysis_success_evaluation: bytes
    provider_name: bytes
    provider_phone: bytes
    service_type: bytes
    location: bytes
    user_criteria: bytes
    urgency: bytes
    service_request_id: bytes
    cost: bytes
    metadata: bytes
    # Since the second layout.
    customer_spoke: bytes
    call_type: bytes
    forwarded_to: bytes
    recording_enabled: bytes
    """Whether VAPI was told to record the call or not to. This and the next are for the late refresh, not the record."""
    outputs_awaited: bytes
    """True: structured outputs were asked for and are not here. False: they are here, or VAPI skipped them."""
    # The large ones.
    transcript: bytes
    messages: bytes
    analysis_structured_data: bytes
    structured_outputs: bytes


FACTS: Final = tuple(Facts.__annotations__)
"""The names of all facts, in their order."""

LARGE_FACTS: Final = ("transcript", "messages", "analysis_structured_data", "structured_outputs")
"""Each is stored in a field of its own, so that a summary need not read those that it leaves out."""

CONVERSATION_FACTS: Final = (*LARGE_FACTS, "recording_url", "analysis_summary", "analysis_success_evaluation")
"""What was said in the call, and what follows from it. The archive gives them up when VAPI has deleted the call."""

SMALL_FACTS: Final = FACTS[: -len(LARGE_FACTS)]
"""All other facts. They are stored together."""
