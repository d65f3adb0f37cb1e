"""Converts an answer of VAPI's API (the 201 of a placed call, ``GET /call/{id}``) to a change of the record. Pure.

A call in these answers has all fields at its top level, and its status is current, not a snapshot from its creation.
"""

from __future__ import annotations

from typing import Final

import msgspec

from service.calls.call_id import is_call_id
from service.calls.ended_reasons import meaning_of
from service.calls.facts import Facts
from service.calls.status import ENDED, Ending, Rank, rank_of
from service.calls.stored_call import CallChange
from service.errors import InvalidMessageError
from service.vapi.artifact_plan import add_what_was_asked_for, artifact_plans
from service.vapi.coercion import ABSENT, FieldReader, Text, first_not_blank
from service.vapi.context import add_context
from service.vapi.intake import REPORT, Weight, create_change, has_analysis
from service.vapi.json_checks import TOO_DEEP, NotJSONError, replace_lone_surrogates
from service.vapi.messages import Call, Results, ServerMessage, decode_message
from service.vapi.results import add_results
from service.vapi.times import timestamp_ms

_ANY_JSON: Final = msgspec.json.Decoder(msgspec.Raw)
_AS_MESSAGE: Final = b'{"message":{"type":"","call":%b}}'


def change_of_api_call(body: bytes, *, expects_analysis: bool) -> CallChange:
    """The change that a call in an answer of VAPI's API makes to its record.

    Args:
        body: as received.
        expects_analysis: ``EXPECT_ANALYSIS``; when False, no ended call waits for an analysis.

    Raises:
        InvalidMessageError: the body is not a JSON object, or has no usable id.
    """
    text = replace_lone_surrogates(body)
    try:
        _ANY_JSON.decode(text)  # otherwise a body could close our brackets and add to the message
        # Decode it like a webhook's call, with the decoder that handles all its odd values.
        call = decode_message(_AS_MESSAGE % text).message.call or Call()
        return _change_of(call, expects_analysis=expects_analysis)
    except msgspec.DecodeError as exc:
        raise NotJSONError(str(exc)) from None
    except RecursionError:
        raise NotJSONError(TOO_DEEP) from None


def _change_of(call: Call, *, expects_analysis: bool) -> CallChange:
    call_id = call.id or ""
    if not is_call_id(call_id):
        raise InvalidMessageError("VAPI's answer is not a call: its id is missing or unusable")
    fields = FieldReader()
    # Copy the call's fields into a message, so that they are read exactly like a report's.
    message = ServerMessage(type=REPORT, **{name: getattr(call, name) for name in Results.__struct_fields__})
    facts = Facts()
    overrides = call.overrides()
    add_context(facts, message, call, overrides, fields)
    plans = artifact_plans(message, call, overrides)
    weight = Weight(rank_of(call.status), rank_of(call.status), Ending.NONE)
    reason = None
    if weight.status == ENDED:
        reason = first_not_blank(call.endedReason)
        add_results(facts, message, call, plans, fields)
        weight = _weigh_ended(message, call, facts, reason, expects_analysis=expects_analysis)
    add_what_was_asked_for(facts, plans, message, call)
    outputs_at = call.artifact.structuredOutputsLastUpdatedAt if call.artifact is not None else ABSENT
    timestamp = max(timestamp_ms(call.updatedAt), timestamp_ms(outputs_at))
    return create_change(call_id, weight, timestamp, reason, facts)


def _weigh_ended(message: ServerMessage, call: Call, facts: Facts, reason: Text, *, expects_analysis: bool) -> Weight:
    """The weight of a report with the same content: preliminary while an analysis may still come."""
    if has_analysis(message, call, facts):
        return Weight(Rank.FULL_REPORT_WITH_ANALYSIS, ENDED, Ending.FULL_REPORT)
    can_come = expects_analysis and not (reason and meaning_of(reason).rules_out_analysis)
    if not can_come:
        return Weight(Rank.FULL_REPORT, ENDED, Ending.FULL_REPORT)
    return Weight(Rank.PRELIMINARY_REPORT, ENDED, Ending.PRELIMINARY_REPORT)
