"""The facts of a call: their names and their order.

A new small fact is one line in Facts and one where it is read from VAPI (vapi/results.py or vapi/context.py, with its
field in vapi/messages.py). Put it last before the large ones: stored facts have no names, only their order
(store/call_codec.py).

- If the record shows it, it is also a field of CallRecord, with an example in api/openapi/examples.py, and a column of
  the archive, which needs a migration, and a type in archive/rows.py unless it is text.
- If the record does not show it, except it in `take_later` of store/lua/take_facts.lua. Otherwise each change of it
  raises `version` and wakes polls.
- If it tells what was said in the call, add it to CONVERSATION_FACTS. Otherwise the archive keeps it after VAPI has
  deleted the call.

Tests that list facts or fields fail until they list it, too.

A new large fact needs more than this. Its stamp would lengthen the field `stamps`, which version 0.1.0 reads and writes
(store/lua/merge_call.lua), so it needs a place of its own, like `facts2` for the later small facts. Its field
belongs in the list of store/lua/delete_call.lua, which removes fields by name.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

BLANK: Final = re.compile(r"[\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff]*")
"""White space of any language, and characters that show nothing: zero-width ones, marks of direction, blank glyphs."""


class Facts(msgspec.Struct):
    """What is known of a call, or what one message gives of it: each fact as JSON text, empty if it is unknown.

    Empty values that VAPI sends are no facts, nor is blank text.
    """

    customer_phone: bytes = b""
    ended_reason: bytes = b""
    assistant_id: bytes = b""
    phone_number_id: bytes = b""
    started_at: bytes = b""
    ended_at: bytes = b""
    duration_minutes: bytes = b""
    recording_url: bytes = b""
    analysis_summary: bytes = b""
    analysis_success_evaluation: bytes = b""
    provider_name: bytes = b""
    provider_phone: bytes = b""
    service_type: bytes = b""
    location: bytes = b""
    user_criteria: bytes = b""
    urgency: bytes = b""
    service_request_id: bytes = b""
    cost: bytes = b""
    metadata: bytes = b""
    # Since the second layout.
    customer_spoke: bytes = b""
    call_type: bytes = b""
    forwarded_to: bytes = b""
    recording_enabled: bytes = b""
    """Whether VAPI was told to record the call or not to. This and the next are for the late refresh, not the record."""
    outputs_awaited: bytes = b""
    """True: structured outputs were asked for and are not here. False: they are here, or VAPI skipped them."""
    # The large ones.
    transcript: bytes = b""
    messages: bytes = b""
    analysis_structured_data: bytes = b""
    structured_outputs: bytes = b""

    def known(self) -> dict[str, bytes]:
        """The facts that are known, by name."""
        return {name: text for name, text in zip(FACTS, msgspec.structs.astuple(self), strict=True) if text}


FACTS: Final = Facts.__struct_fields__
"""The names of all facts, in their order."""

LARGE_FACTS: Final = ("transcript", "messages", "analysis_structured_data", "structured_outputs")
"""Each is stored in a field of its own, so that a summary need not read those that it leaves out."""

CONVERSATION_FACTS: Final = (*LARGE_FACTS, "recording_url", "analysis_summary", "analysis_success_evaluation")
"""What was said in the call, and what follows from it. The archive gives them up when VAPI has deleted the call."""

SMALL_FACTS: Final = FACTS[: -len(LARGE_FACTS)]
"""All other facts. They are stored together."""

NO_FACTS: Final = Facts()
"""Shared; never change it."""
