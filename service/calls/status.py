"""The statuses of a call, their order, and what follows from how a call ended. The only place that knows them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

STATUSES: Final = ("scheduled", "queued", "ringing", "in-progress", "forwarding", "ended")
"""In the order of a call's life. VAPI also knows not-found and deletion-failed, which are no stage of one."""

SNAPSHOT_STATUSES: Final = STATUSES[:3]
"""What ``message.call.status`` can still truly say: it was written when the call was created and never after."""

ENDED: Final = STATUSES.index("ended") + 1


def rank_of(status: str | None) -> int:
    """Position in the life of a call, from 1; 0 for none and for a status that is no stage of it."""
    return STATUSES.index(status) + 1 if status in STATUSES else 0


def status_at(rank: int) -> str | None:
    """The status at that position; None at 0."""
    return STATUSES[rank - 1] if rank else None


class Ending(IntEnum):
    """How far an event ends a call."""

    NONE = 0
    OVER = 1
    """It ended; the report is still to come."""
    PRELIMINARY_REPORT = 2
    FULL_REPORT = 3


class Rank(IntEnum):
    """Which kind of event outweighs which, whatever their timestamps. Statuses lie between, at ``rank_of``."""

    OTHER_MESSAGE = 0
    PRELIMINARY_REPORT = ENDED + 1
    FULL_REPORT = ENDED + 2
    FULL_REPORT_WITH_ANALYSIS = ENDED + 3


class DataStatus(IntEnum):
    """How much of a call's result is here; the numbers are those of merge_call.lua."""

    PENDING = 0
    PARTIAL = 1
    COMPLETE = 2
    FETCH_FAILED = 3

    @property
    def is_final(self) -> bool:
        return self >= DataStatus.COMPLETE


NO_ANALYSIS_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy", "cancelled"})
"""After these no analysis can come: nobody talked."""

UNRELIABLE_OUTCOMES: Final = frozenset({"voicemail", "no_answer", "busy"})
"""VAPI's model then summarises a conversation that never was: a voicemail once became "status of the Q3 campaign"."""

_NO_ANSWER: Final = frozenset({"customer-did-not-answer", "twilio-failed-to-connect-call"})
_CANCELLED: Final = frozenset({"manually-canceled", "call-deleted", "scheduled-call-deleted"})
_COMPLETED: Final = frozenset({"exceeded-max-duration", "silence-timed-out"})
_COMPLETED_PREFIXES: Final = (
    "customer-ended-call",
    "assistant-ended-call",
    "assistant-said-end-call-phrase",
    "assistant-forwarded-call",
)


def outcome_of(ended_reason: str) -> str:
    """What the 600 and more reasons, all free text, come down to.

    voicemail, busy, no_answer, cancelled, completed or failed.
    """
    if "voicemail" in ended_reason:
        return "voicemail"
    if "busy" in ended_reason:
        return "busy"
    if ended_reason in _NO_ANSWER or "no-answer" in ended_reason:
        return "no_answer"
    if ended_reason in _CANCELLED:
        return "cancelled"
    if ended_reason in _COMPLETED or ended_reason.startswith(_COMPLETED_PREFIXES):
        return "completed"
    return "failed"


def rules_out_analysis(ended_reason: str) -> bool:
    """True when no analysis can follow such an end."""
    return outcome_of(ended_reason) in NO_ANALYSIS_OUTCOMES


def is_analysis_reliable(outcome: str | None, *, has_transcript: bool) -> bool:
    """Whether a final record's analysis speaks of something that was said."""
    return has_transcript and outcome not in UNRELIABLE_OUTCOMES
