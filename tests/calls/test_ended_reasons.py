"""What each ended reason means, held to the table of all that VAPI has named."""

from __future__ import annotations

from typing import get_args, get_type_hints

from service.calls.call_record import CallRecord
from service.calls.ended_reasons import ReasonMeaning, meaning_of
from tests.support.vapi_sender import SAMPLES

TABLE = [
    line.split("\t")
    for line in (SAMPLES.parent / "vapi-ended-reasons.tsv").read_text().splitlines()[2:]
]  # fmt: skip
"""Reason, outcome, retry (empty for none), whether it ever connected (yes or no)."""


def test_every_reason_that_vapi_has_named_means_what_the_table_says() -> None:
    assert len({reason for reason, *_ in TABLE}) == len(TABLE) > 600
    expected = {
        reason: ReasonMeaning(outcome, retry or None, has_connected == "yes")  # type: ignore[arg-type]
        for reason, outcome, retry, has_connected in TABLE
    }
    wrong = {reason: meaning_of(reason) for reason, meaning in expected.items() if meaning_of(reason) != meaning}
    assert wrong == {}


def test_reasons_that_vapi_may_add_fall_under_the_same_rules() -> None:
    expected: dict[str, tuple[str, str | None, bool]] = {
        "call.in-progress.twilio-completed-call-voicemail": ("voicemail", "later", True),
        "pipeline-error-new-voice-system-busy": ("failed", "soon", True),
        "call.in-progress.error-vapifault-new-model-500-server-error": ("failed", "soon", True),
        "pipeline-error-new-model-llm-failed": ("failed", "soon", True),
        "pipeline-error-new-model-429-exceeded-quota": ("failed", "fix", True),
        "pipeline-error-new-model-401-unauthorized": ("failed", "fix", True),
        "call.in-progress.error-transfer-failed-to-connect": ("failed", "later", True),
        "call.forwarding.no-answer": ("failed", "later", True),
        "call.forwarding.customer-busy": ("failed", "later", True),
        "call.in-progress.error-warm-transfer-customer-did-not-answer": ("failed", "later", True),
        "call.in-progress.customer-busy": ("busy", "later", True),
        "call.in-progress.error-providerfault-outbound-sip-404-not-found": ("failed", "fix", False),
        "call.in-progress.error-providerfault-outbound-sip-504-server-time-out": ("failed", "later", False),
        "call.in-progress.error-providerfault-outbound-sip-486-busy-here": ("failed", "later", False),
        "call.in-progress.error-providerfault-outbound-sip-600-busy-everywhere": ("failed", "later", False),
        "call.in-progress.error-providerfault-outbound-sip-603-decline": ("failed", None, False),
        "customer-ended-call-2027": ("completed", None, True),
        "call.ending.hook-executed-2027": ("completed", None, True),
        "brand-new-2027-reason": ("failed", None, True),
        "✓": ("failed", None, True),
    }
    wrong = {reason: meaning_of(reason) for reason, meaning in expected.items() if meaning_of(reason) != meaning}
    assert wrong == {}


def test_a_record_has_no_other_outcomes_and_retries_than_the_table() -> None:
    for field, column in (("outcome", 1), ("retry", 2)):
        literal, _ = get_args(get_type_hints(CallRecord)[field])
        assert set(get_args(literal)) == {row[column] for row in TABLE} - {""}


def test_no_analysis_follows_where_nobody_can_have_talked() -> None:
    for reason, outcome, _, has_connected in TABLE:
        nobody_talked = has_connected == "no" or outcome in {"voicemail", "busy", "no_answer", "cancelled"}
        assert meaning_of(reason).rules_out_analysis is nobody_talked, reason
