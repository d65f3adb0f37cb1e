"""From a server message to the change it makes to a call's record. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from service.calls.context import add_context
from service.calls.facts import Facts
from service.calls.results import add_results
from service.calls.status import ENDED, SNAPSHOT_STATUSES, Ending, Rank, rank_of
from service.errors import Detail, InvalidMessageError
from service.store.shapes import CallChange, new_token
from service.vapi.messages import Analysis, Call, Received, ServerMessage
from service.vapi.salvage import Salvage, is_empty, timestamp_ms

REPORT: Final = "end-of-call-report"
STATUS_UPDATE: Final = "status-update"

CALL_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")

_NO_CALL: Final = Call()


class Intake(Struct, frozen=True):
    """What a message comes down to."""

    change: CallChange | None
    """None: the message concerns no call, so there is nothing to store."""
    dropped: int
    """Fields of an impossible type that were left out."""


class _Weight(Struct, frozen=True):
    rank: int
    status: int
    ending: Ending


def change_of(received: Received) -> Intake:
    """The change that a server message makes to its call's record.

    Raises:
        InvalidMessageError: a status update or a report without a usable call id. Any other message without one
            simply has nothing to store.
    """
    message = received.message
    call = message.call or _NO_CALL
    fields = Salvage(received.dropped)
    call_id = call.id or ""
    speaks_of_end = message.type in (REPORT, STATUS_UPDATE)
    if not is_call_id(call_id):
        if speaks_of_end:
            raise InvalidMessageError(
                "Invalid webhook payload", details=(Detail("$.message.call.id", "missing, or not a call id"),)
            )
        return Intake(None, fields.dropped)
    facts = Facts()
    add_context(facts, message, call, fields)
    if message.type == REPORT:
        add_results(facts, message, call, fields)
    weight = _weigh(message, call, facts)
    if speaks_of_end and not 0 < weight.rank < ENDED:  # while it runs, `call.endedReason` is a passing SIP state
        facts.ended_reason = message.endedReason or call.endedReason or None
    change = CallChange(
        call_id=call_id.encode(),
        rank=weight.rank,
        timestamp_ms=timestamp_ms(message.timestamp),
        status=weight.status,
        ending=weight.ending,
        small=facts.small,
        large=facts.large,
        token=new_token(),
    )
    return Intake(change, fields.dropped)


def is_call_id(text: str) -> bool:
    return CALL_ID.fullmatch(text) is not None


def _weigh(message: ServerMessage, call: Call, facts: Facts) -> _Weight:
    if message.type == REPORT:
        return _weigh_report(message, call, facts)
    at_least = rank_of(call.status) if call.status in SNAPSHOT_STATUSES else 0
    if message.type == STATUS_UPDATE:
        status = rank_of(message.status or call.status)
        return _Weight(status, max(status, at_least), Ending.OVER if status == ENDED else Ending.NONE)
    return _Weight(Rank.OTHER_MESSAGE, at_least, Ending.NONE)


def _weigh_report(message: ServerMessage, call: Call, facts: Facts) -> _Weight:
    """A report is preliminary when it has no analysis, no duration and no cost: the full one follows."""
    if facts.analysis_summary or has_analysis(message.analysis) or has_analysis(call.analysis):
        return _Weight(Rank.FULL_REPORT_WITH_ANALYSIS, ENDED, Ending.FULL_REPORT)
    if facts.duration_minutes is not None or facts.cost is not None:
        return _Weight(Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)
    return _Weight(Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)


def has_analysis(analysis: Analysis | None) -> bool:
    """True when it says anything at all."""
    return analysis is not None and not all(is_empty(bytes(value)) for value in msgspec.structs.astuple(analysis))
