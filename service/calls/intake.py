"""From a server message to the change it makes to a call's record. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from service.calls.context import context_of
from service.calls.record import LARGE_FACTS, SMALL_FACTS
from service.calls.results import ended_reason_of, results_of
from service.calls.status import ENDED, SNAPSHOT_STATUSES, Ending, Rank, rank_of
from service.errors import Detail, InvalidMessageError
from service.store.calls import CallChange
from service.vapi.messages import Analysis, Call, Received, ServerMessage
from service.vapi.salvage import Salvage, decoded, is_empty, timestamp_ms

REPORT: Final = "end-of-call-report"
STATUS_UPDATE: Final = "status-update"

CALL_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")

_NO_CALL: Final = Call()
_BLANKS: Final = (b"",) * len(SMALL_FACTS)


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
    call_id = decoded(fields.text(call.id))
    speaks_of_end = message.type in (REPORT, STATUS_UPDATE)
    if not is_call_id(call_id):
        if speaks_of_end:
            raise InvalidMessageError(
                "Invalid webhook payload", details=(Detail("$.message.call.id", "missing, or not a call id"),)
            )
        return Intake(None, fields.dropped)
    facts = context_of(message, call, fields)
    if speaks_of_end:
        facts["ended_reason"] = ended_reason_of(message, call, fields)
    if message.type == REPORT:
        facts |= results_of(message, call, fields)
    weight = _weigh(message, call, facts, fields)
    change = CallChange(
        call_id=call_id.encode(),
        rank=weight.rank,
        timestamp_ms=timestamp_ms(message.timestamp),
        status=weight.status,
        ending=weight.ending,
        small=tuple(map(facts.get, SMALL_FACTS, _BLANKS)),
        large=tuple(map(facts.get, LARGE_FACTS, _BLANKS)),
    )
    return Intake(change, fields.dropped)


def is_call_id(text: str) -> bool:
    return CALL_ID.fullmatch(text) is not None


def _weigh(message: ServerMessage, call: Call, facts: dict[str, bytes], fields: Salvage) -> _Weight:
    if message.type == REPORT:
        return _weigh_report(message, call, facts)
    snapshot = decoded(fields.text(call.status))
    at_least = rank_of(snapshot) if snapshot in SNAPSHOT_STATUSES else 0
    if message.type == STATUS_UPDATE:
        status = rank_of(decoded(fields.text(message.status)) or snapshot)
        return _Weight(status, max(status, at_least), Ending.OVER if status == ENDED else Ending.NONE)
    return _Weight(Rank.OTHER_MESSAGE, at_least, Ending.NONE)


def _weigh_report(message: ServerMessage, call: Call, facts: dict[str, bytes]) -> _Weight:
    """A report is preliminary when it has no analysis, no duration and no cost: the full one follows."""
    if _has_analysis(message.analysis) or _has_analysis(call.analysis) or facts["analysis_summary"]:
        return _Weight(Rank.FULL_REPORT_WITH_ANALYSIS, ENDED, Ending.FULL_REPORT)
    if facts["duration_minutes"] or facts["cost"]:
        return _Weight(Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)
    return _Weight(Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)


def _has_analysis(analysis: Analysis | None) -> bool:
    return analysis is not None and not all(is_empty(bytes(value)) for value in msgspec.structs.astuple(analysis))
