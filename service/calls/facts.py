"""The facts of a call: their names, and their encoding as the JSON fragments that are stored.

A new fact is one line in Facts and one where it is read from VAPI. Add it after the others of its kind: stored facts
have no names, only their order (store/call_codec.py). One that the record shows is also a field of CallRecord and a
column of the archive, which needs a migration.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw, Struct

BLANK: Final = re.compile(r"[\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff]*")
"""White space of any language, and characters that show nothing: zero-width ones, marks of direction, blank glyphs."""


class Facts(Struct):
    """The facts that one message gives of its call; None for the others. Text is never blank, Raw is usable JSON."""

    customer_phone: str | None = None
    ended_reason: str | None = None
    assistant_id: str | None = None
    phone_number_id: str | None = None
    started_at: Raw | None = None
    ended_at: Raw | None = None
    duration_minutes: float | None = None
    recording_url: str | None = None
    analysis_summary: Raw | None = None
    analysis_success_evaluation: Raw | None = None
    provider_name: str | None = None
    provider_phone: str | None = None
    service_type: str | None = None
    location: str | None = None
    user_criteria: str | None = None
    urgency: str | None = None
    service_request_id: str | None = None
    cost: Raw | None = None
    metadata: Raw | None = None
    # Since the second layout.
    customer_spoke: bool | None = None
    call_type: str | None = None
    forwarded_to: str | None = None
    recording_enabled: bool | None = None
    """Whether VAPI was told to record the call or not to. This and the next are for the late refresh, not the record."""
    outputs_awaited: bool | None = None
    """True: structured outputs were asked for and are not here. False: they are here, or VAPI skipped them."""
    # The large ones, as JSON text.
    transcript: bytes = b""
    messages: bytes = b""
    analysis_structured_data: bytes = b""
    structured_outputs: bytes = b""

    def fragments(self) -> dict[str, bytes]:
        """The facts that are given, as JSON text by name."""
        values = msgspec.structs.astuple(self)
        # One value a line, as small facts hold no line break. A line "null" is a fact that is absent.
        # As a list, because msgspec 0.22 never frees its iterator over anything else.
        texts = _ENCODER.encode_lines(list(values[: len(SMALL_FACTS)])).split(b"\n")
        texts[len(SMALL_FACTS) :] = values[len(SMALL_FACTS) :]
        named = zip(Facts.__struct_fields__, texts, strict=True)
        return {name: text for name, text in named if text and text != b"null"}


LARGE_FACTS: Final = ("transcript", "messages", "analysis_structured_data", "structured_outputs")
"""Each is stored in a field of its own, so that a summary need not read those that it leaves out."""

SMALL_FACTS: Final = Facts.__struct_fields__[: -len(LARGE_FACTS)]
"""All other facts. They are stored together."""

_ENCODER: Final = msgspec.json.Encoder()
