"""The merge of two records of one call, by the rule of merge_call.lua. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from service.calls.facts import CONVERSATION_FACTS, Facts
from service.calls.stamped_call import StampedCall
from service.calls.status import DataStatus, Ending, stamped_at_ms
from service.calls.stored_call import StoredCall

_HOW_FAR: Final = (DataStatus.PENDING, DataStatus.PARTIAL, DataStatus.FETCH_FAILED, DataStatus.COMPLETE)
"""A full report still completes a record that was given up, so complete comes last."""


def merge_calls(one: StampedCall, other: StampedCall) -> StampedCall:
    """What one record would hold if it had got the messages of both. It does not matter which is first.

    Equal stamps are decided by the greater bytes, so both must write their facts in the same way. The archive writes
    JSON in its own way. Only two messages of the same rank in the same millisecond can tell the difference.
    """
    ours, theirs = one.call, other.call
    facts, others = ours.facts.known(), theirs.facts.known()
    weighed = {name: (stamp, comparable(facts[name])) for name, stamp in one.stamps.items()}
    stamps = dict(one.stamps)
    for name, stamp in other.stamps.items():
        if name not in weighed or (stamp, comparable(others[name])) > weighed[name]:
            facts[name], stamps[name] = others[name], stamp
    no_analysis = one.no_analysis or other.no_analysis
    ending = max(ours.ending, theirs.ending)
    call = StoredCall(
        call_id=ours.call_id,
        version=max(ours.version, theirs.version),
        created_at_ms=min(ours.created_at_ms, theirs.created_at_ms),
        updated_at_ms=max(ours.updated_at_ms, theirs.updated_at_ms),
        expires_at_ms=max(ours.expires_at_ms, theirs.expires_at_ms),
        status=max(ours.status, theirs.status),
        ending=ending,
        over_at_ms=min(ours.over_at_ms or theirs.over_at_ms, theirs.over_at_ms or ours.over_at_ms),
        data_status=_data_status(ours, theirs, ending, no_analysis=no_analysis),
        has_transcript=ours.has_transcript or theirs.has_transcript,
        facts=Facts(**facts),
        is_archived=ours.is_archived or theirs.is_archived,
    )
    raw_stamp, raw = max((one.raw_stamp, one.raw), (other.raw_stamp, other.raw))
    deleted_at_vapi = one.deleted_at_vapi or other.deleted_at_vapi
    return StampedCall(call, stamps, no_analysis, deleted_at_vapi, raw, raw_stamp)


def comparable(fragment: bytes) -> bytes:
    """A JSON text without its closing quote, so that it is less than a longer text that begins with it."""
    return fragment[:-1] if fragment[:1] == b'"' else fragment


def without_facts_before(stamped: StampedCall, deleted_at_ms: int) -> StampedCall | None:
    """What is left of a record after a deletion: the facts of later messages. None when there are none.

    Messages without a timestamp count as earlier. So does a record that has not changed since, whatever its messages
    say: the sender's clock may be ahead of Redis's.
    """
    if stamped.call.updated_at_ms <= deleted_at_ms:
        return None
    kept = {name: stamp for name, stamp in stamped.stamps.items() if stamped_at_ms(stamp) > deleted_at_ms}
    if not kept:
        return None
    call = msgspec.structs.replace(stamped.call, facts=_only(kept, stamped.call.facts))
    is_raw_kept = stamped.raw_stamp != b"" and stamped_at_ms(stamped.raw_stamp) > deleted_at_ms
    return msgspec.structs.replace(
        stamped,
        call=call,
        stamps=kept,
        raw=stamped.raw if is_raw_kept else b"",
        raw_stamp=stamped.raw_stamp if is_raw_kept else b"",
    )


def without_results(stamped: StampedCall) -> StampedCall:
    """The record without what was said in the call."""
    call = stamped.call
    stamps = {name: stamp for name, stamp in stamped.stamps.items() if name not in CONVERSATION_FACTS}
    call = msgspec.structs.replace(call, facts=_only(stamps, call.facts), has_transcript=False)
    return msgspec.structs.replace(stamped, call=call, stamps=stamps, raw=b"", raw_stamp=b"")


def _only(names: Iterable[str], facts: Facts) -> Facts:
    return Facts(**{name: getattr(facts, name) for name in names})


def _data_status(ours: StoredCall, theirs: StoredCall, ending: int, *, no_analysis: bool) -> int:
    """The further one; complete where the messages of both together complete the record and those of neither alone."""
    if ending == Ending.FULL_REPORT or (ending == Ending.PRELIMINARY_REPORT and no_analysis):
        return DataStatus.COMPLETE
    return max(ours.data_status, theirs.data_status, key=lambda status: _HOW_FAR.index(DataStatus(status)))
