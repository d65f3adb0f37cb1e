"""Converts a server message to the change it makes to a call's record. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from service.calls.call_id import is_call_id
from service.calls.ended_reasons import meaning_of
from service.calls.facts import Facts
from service.calls.status import (
    CALL_DELETED_OFFSET_MS,
    CALL_DELETED_RANK,
    ENDED,
    MAX_STAMPED_MS,
    SNAPSHOT_STATUSES,
    Ending,
    Rank,
    rank_of,
)
from service.calls.stored_call import CallChange
from service.errors import Detail, InvalidMessageError
from service.vapi.artifact_plan import add_what_was_asked_for, artifact_plans, has_structured_output
from service.vapi.coercion import FieldReader, Text, first_not_blank, is_empty, json_text
from service.vapi.context import add_context
from service.vapi.messages import Call, Received, Results, ServerMessage
from service.vapi.results import add_results, has_duration_or_cost
from service.vapi.times import timestamp_ms

REPORT: Final = "end-of-call-report"
STATUS_UPDATE: Final = "status-update"
CALL_DELETED: Final = "call.deleted"

DELETED_REASON: Final = "call-deleted"

_NO_CALL: Final = Call()


class Intake(Struct, frozen=True):
    """The result of converting a message."""

    change: CallChange | None
    """None: there is nothing to store. The message concerns no call, or a call whose id is missing or unusable."""
    dropped: int
    """How many fields of an impossible type were left out."""


class Weight(Struct, frozen=True):
    """How much a message counts against others, and how far it ends the call."""

    rank: int
    status: int
    ending: Ending


def change_of(received: Received, token: bytes = b"") -> Intake:
    """The change that a server message makes to its call's record. ``token``: see CallChange.

    Raises:
        InvalidMessageError: a status update or a report has no usable call id. Other messages without one are not
            stored.
    """
    message = received.message
    call = message.call or _NO_CALL
    fields = FieldReader(received.dropped)
    call_id = call.id or ""
    if not is_call_id(call_id):
        if message.type in (REPORT, STATUS_UPDATE):
            raise InvalidMessageError(
                "Invalid webhook payload", details=(Detail("$.message.call.id", "missing, or not a call id"),)
            )
        return Intake(None, fields.dropped)
    facts = Facts()
    overrides = call.overrides()
    add_context(facts, message, call, overrides, fields)
    plans = artifact_plans(message, call, overrides)
    if message.type == REPORT:
        add_results(facts, message, call, plans, fields)
    add_what_was_asked_for(facts, plans, message, call)
    weight = _weigh(message, call, facts)
    timestamp = timestamp_ms(message.timestamp)
    reason = None
    if message.type == CALL_DELETED:
        reason = DELETED_REASON
        timestamp = min(CALL_DELETED_OFFSET_MS + timestamp, MAX_STAMPED_MS)
    elif weight.ending:
        reason = first_not_blank(message.endedReason, call.endedReason)
    return Intake(create_change(call_id, weight, timestamp, reason, facts, token), fields.dropped)


def create_change(
    call_id: str, weight: Weight, timestamp: int, reason: Text, facts: Facts, token: bytes = b""
) -> CallChange:
    """The change that these facts and the ended reason make. ``timestamp`` in ms; ``token``: see CallChange."""
    if reason is not None:
        facts.ended_reason = json_text(reason)
    return CallChange(
        call_id=call_id.encode(),
        rank=weight.rank,
        timestamp_ms=timestamp,
        status=weight.status,
        ending=weight.ending,
        rules_out_analysis=reason is not None and meaning_of(reason).rules_out_analysis,
        facts=facts,
        token=token,
    )


def _weigh(message: ServerMessage, call: Call, facts: Facts) -> Weight:
    if message.type == REPORT:
        return _weigh_report(message, call, facts)
    if message.type == CALL_DELETED:
        return Weight(CALL_DELETED_RANK, ENDED, Ending.FULL_REPORT)
    at_least = rank_of(call.status) if call.status in SNAPSHOT_STATUSES else 0
    if message.type == STATUS_UPDATE:
        status = rank_of(first_not_blank(message.status, call.status))
        return Weight(status, max(status, at_least), Ending.OVER if status == ENDED else Ending.NONE)
    return Weight(Rank.OTHER_MESSAGE, at_least, Ending.NONE)


def _weigh_report(message: ServerMessage, call: Call, facts: Facts) -> Weight:
    """A full report follows a preliminary one. VAPI may send a report before its structured outputs are ready."""
    if facts.outputs_awaited == b"true":
        return Weight(Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)
    if has_analysis(message, call, facts):
        return Weight(Rank.FULL_REPORT_WITH_ANALYSIS, ENDED, Ending.FULL_REPORT)
    if has_duration_or_cost(message, call):
        return Weight(Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)
    return Weight(Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)


def has_analysis(message: Results, call: Results, facts: Facts) -> bool:
    """True when the message or its call has a summary, structured data, a verdict or a structured output."""
    if facts.analysis_summary or facts.analysis_structured_data or facts.analysis_success_evaluation:
        return True
    # A value of an odd type is dropped, but it shows that there was an analysis.
    places = (message.analysis, call.analysis)
    values = [
        bytes(value)
        for place in places
        if place is not None
        for value in (place.summary, place.structuredData, place.structuredDataMulti, place.successEvaluation)
    ]
    return not all(map(is_empty, values)) or has_structured_output(facts.structured_outputs)
