"""The facts of a call, in the order in which they are stored, and how they become the JSON fragments of a change."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.status import rules_out_analysis

LARGE_FACTS: Final = ("transcript", "messages", "analysis_structured_data", "structured_outputs")
"""Each in a field of its own, the transcript first; the last of the facts."""


class Facts(Struct):
    """What one message says of its call; None where it says nothing. Text is never empty, Raw is usable JSON.

    The store wants the phone first and the ended reason second.
    """

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
    transcript: bytes = b""
    messages: bytes = b""
    analysis_structured_data: bytes = b""
    structured_outputs: bytes = b""

    @property
    def small(self) -> tuple[bytes, ...]:
        """One JSON fragment for each of SMALL_FACTS, empty where nothing is said.

        The ended reason stands behind the mark that the store wants: 1 when no analysis can follow such an end, else 0.
        """
        values = list(msgspec.structs.astuple(self)[: len(SMALL_FACTS)])
        if self.ended_reason is not None:
            mark = b"1" if rules_out_analysis(self.ended_reason) else b"0"
            values[1] = Raw(mark + msgspec.json.encode(self.ended_reason))
        # One fragment a line: compact JSON holds no line break, and no fragment but nothing is "null".
        lines = _ENCODER.encode_lines(values).replace(b"null\n", b"\n")
        return tuple(lines.split(b"\n")[:-1])

    @property
    def large(self) -> tuple[bytes, ...]:
        return self.transcript, self.messages, self.analysis_structured_data, self.structured_outputs


SMALL_FACTS: Final = Facts.__struct_fields__[: -len(LARGE_FACTS)]
"""All others; they share one field."""

_ENCODER: Final = msgspec.json.Encoder()
