"""From an answer of VAPI's API (the 201 of a placed call, ``GET /call/{id}``) to the change it makes. Pure.

There a call carries everything at its top level, and its status is the true one, not a snapshot from its creation.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from service.calls.context import add_context
from service.calls.facts import Facts
from service.calls.intake import REPORT, has_analysis, is_call_id
from service.calls.results import add_results
from service.calls.status import ENDED, Ending, Rank, rank_of, rules_out_analysis
from service.errors import InvalidMessageError
from service.store.shapes import CallChange, new_token
from service.vapi.json_text import NotJSONError, replace_lone_surrogates
from service.vapi.messages import Call, Results, ServerMessage, decode_message
from service.vapi.salvage import ABSENT, Salvage, timestamp_ms


class _Dated(Struct):
    updatedAt: Raw = ABSENT  # noqa: N815 - VAPI's spelling


_DATED: Final = msgspec.json.Decoder(_Dated)
_AS_MESSAGE: Final = b'{"message":{"type":"","call":%b}}'


def change_of_api_call(body: bytes, *, expects_analysis: bool) -> CallChange:
    """The change that a call, as VAPI's API states it, makes to its record.

    Args:
        body: as received.
        expects_analysis: ``EXPECT_ANALYSIS``; without it no ended call waits for one.

    Raises:
        InvalidMessageError: it is no JSON, no object, or has no usable id.
    """
    call, updated_at = _decode_call(body)
    fields = Salvage()
    call_id = call.id or ""
    if not is_call_id(call_id):
        raise InvalidMessageError("VAPI's answer is no call: its id is missing or unusable")
    status = rank_of(call.status)
    # The call's own fields as those of a message, so that they are read exactly as a report's are.
    message = ServerMessage(type=REPORT, **{name: getattr(call, name) for name in Results.__struct_fields__})
    facts = Facts()
    add_context(facts, message, call, fields)
    rank, ending = status, Ending.NONE
    if status == ENDED:
        facts.ended_reason = call.endedReason or None
        add_results(facts, message, call, fields)
        rank, ending = _weigh_ended(call, facts, expects_analysis=expects_analysis)
    return CallChange(
        call_id=call_id.encode(),
        rank=rank,
        timestamp_ms=timestamp_ms(updated_at),
        status=status,
        ending=ending,
        small=facts.small,
        large=facts.large,
        token=new_token(),
    )


def _decode_call(body: bytes) -> tuple[Call, Raw]:
    """The call and its ``updatedAt``, by the webhooks' decoder, which knows all that can be odd in it."""
    text = replace_lone_surrogates(body)
    received = decode_message(_AS_MESSAGE % text)
    try:
        updated_at = _DATED.decode(text).updatedAt
    except msgspec.ValidationError:
        raise InvalidMessageError("VAPI's answer is no call: it is no object") from None
    except msgspec.DecodeError as exc:
        raise NotJSONError(str(exc)) from None
    return received.message.call or Call(), updated_at


def _weigh_ended(call: Call, facts: Facts, *, expects_analysis: bool) -> tuple[int, Ending]:
    """As the report that says the same: preliminary while an analysis may still come."""
    if facts.analysis_summary or has_analysis(call.analysis):
        return Rank.FULL_REPORT_WITH_ANALYSIS, Ending.FULL_REPORT
    can_come = expects_analysis and not (facts.ended_reason and rules_out_analysis(facts.ended_reason))
    if not can_come:
        return Rank.FULL_REPORT, Ending.FULL_REPORT
    return Rank.PRELIMINARY_REPORT, Ending.PRELIMINARY_REPORT
