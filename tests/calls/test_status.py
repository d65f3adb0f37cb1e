"""The statuses in order, and what each of VAPI's reasons for an end comes down to."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from service.calls.record import CallRecord
from service.calls.status import (
    NO_ANALYSIS_OUTCOMES,
    DataStatus,
    Rank,
    is_analysis_reliable,
    outcome_of,
    rank_of,
    status_at,
)
from tests.support.for_each import for_each
from tests.support.vapi_sender import SAMPLES

STATUSES = ["scheduled", "queued", "ringing", "in-progress", "forwarding", "ended"]
OUTCOMES = {"completed", "voicemail", "busy", "no_answer", "cancelled", "failed"}
REASONS = (SAMPLES.parent / "vapi-ended-reasons.txt").read_text().split()


def test_there_are_some_600_reasons() -> None:
    assert len(set(REASONS)) == len(REASONS) > 600


@for_each("reason", REASONS)
def test_every_known_reason_has_one_of_the_six_outcomes(reason: str) -> None:
    outcome = outcome_of(reason)
    assert outcome in OUTCOMES
    if "voicemail" in reason:
        assert outcome == "voicemail"


@pytest.mark.parametrize(
    ("outcome", "reasons"),
    [
        (
            "completed",
            {
                "assistant-ended-call",
                "assistant-ended-call-after-message-spoken",
                "assistant-ended-call-with-hangup-task",
                "assistant-forwarded-call",
                "assistant-said-end-call-phrase",
                "customer-ended-call",
                "customer-ended-call-after-warm-transfer-attempt",
                "customer-ended-call-before-warm-transfer",
                "customer-ended-call-during-transfer",
                "exceeded-max-duration",
                "silence-timed-out",
            },
        ),
        ("cancelled", {"manually-canceled", "call-deleted", "scheduled-call-deleted"}),
        ("no_answer", {"customer-did-not-answer", "twilio-failed-to-connect-call"}),
    ],
)
def test_these_and_no_other_known_reasons_have_that_outcome(outcome: str, reasons: set[str]) -> None:
    known = {reason for reason in REASONS if outcome_of(reason) == outcome}
    assert {reason for reason in known if "no-answer" not in reason} == reasons


@for_each(
    ("reason", "outcome"),
    [
        ("voicemail", "voicemail"),
        ("call.in-progress.twilio-completed-call-voicemail", "voicemail"),
        ("voicemail-box-busy", "voicemail"),
        ("customer-busy", "busy"),
        ("call.ringing.sip-inbound-busy-here", "busy"),
        ("busy-no-answer", "busy"),
        ("no-answer", "no_answer"),
        ("call.ringing.hook-no-answer", "no_answer"),
        ("customer-ended-call-2027", "completed"),
        ("assistant-said-end-call-phrase-2027", "completed"),
        ("exceeded-max-duration-2027", "failed"),
        ("the-customer-ended-call", "failed"),
        ("customer-did-not-answer-2027", "failed"),
        ("manually-canceled-2027", "failed"),
        ("Voicemail", "failed"),
        ("pipeline-error-openai-voice-failed", "failed"),
        ("brand-new-2027-reason", "failed"),
        ("", "failed"),
        ("✓", "failed"),
    ],
)
def test_an_outcome_follows_from_the_words_of_the_reason(reason: str, outcome: str) -> None:
    assert outcome_of(reason) == outcome


def test_the_outcomes_of_a_record_are_these_six() -> None:
    literal, _ = get_args(get_type_hints(CallRecord)["outcome"])
    assert set(get_args(literal)) == OUTCOMES


def test_no_analysis_follows_where_nobody_talked() -> None:
    assert OUTCOMES - {"completed", "failed"} == NO_ANALYSIS_OUTCOMES


@pytest.mark.parametrize(("status", "position"), [(status, number) for number, status in enumerate(STATUSES, start=1)])
def test_a_status_has_a_position(status: str, position: int) -> None:
    assert rank_of(status) == position
    assert status_at(position) == status


@pytest.mark.parametrize("status", [None, "", "not-found", "deletion-failed", "ENDED"])
def test_what_is_no_stage_of_a_call_has_position_0(status: str | None) -> None:
    assert rank_of(status) == 0


def test_at_position_0_there_is_no_status() -> None:
    assert status_at(0) is None


def test_reports_weigh_more_than_any_status() -> None:
    statuses = [rank_of(status) for status in STATUSES]
    ranks = [Rank.OTHER_MESSAGE, *statuses, Rank.PRELIMINARY_REPORT, Rank.FULL_REPORT, Rank.FULL_REPORT_WITH_ANALYSIS]
    assert ranks == sorted(set(ranks))


def test_complete_and_fetch_failed_are_final() -> None:
    assert [status.name for status in DataStatus if status.is_final] == ["COMPLETE", "FETCH_FAILED"]


@pytest.mark.parametrize(
    ("outcome", "reliable"),
    [
        ("completed", True),
        ("failed", True),
        ("cancelled", True),
        (None, True),
        ("voicemail", False),
        ("busy", False),
        ("no_answer", False),
    ],
)
def test_an_analysis_is_reliable_where_something_was_said(outcome: str | None, *, reliable: bool) -> None:
    assert is_analysis_reliable(outcome, has_transcript=True) is reliable
    assert not is_analysis_reliable(outcome, has_transcript=False)
