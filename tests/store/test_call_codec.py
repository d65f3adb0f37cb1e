"""The layout of stored and spooled facts, which replicas of another version read and write as well."""

from __future__ import annotations

from service.calls.facts import LARGE_FACTS
from service.store.call_codec import FIRST_FACTS, LATER_FACTS

FIRST_LAYOUT = (
    "customer_phone", "ended_reason", "assistant_id", "phone_number_id", "started_at", "ended_at", "duration_minutes",
    "recording_url", "analysis_summary", "analysis_success_evaluation", "provider_name", "provider_phone",
    "service_type", "location", "user_criteria", "urgency", "service_request_id", "cost", "metadata",
)  # fmt: skip


def test_the_order_of_stored_facts_never_changes_and_new_ones_come_last() -> None:
    assert FIRST_FACTS == FIRST_LAYOUT
    assert LATER_FACTS[:5] == (
        "customer_spoke",
        "call_type",
        "forwarded_to",
        "recording_enabled",
        "outputs_awaited",
    )
    assert LARGE_FACTS[:4] == ("transcript", "messages", "analysis_structured_data", "structured_outputs")
