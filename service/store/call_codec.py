"""How a call's facts are laid out in Redis and in the spool. Nothing else in Python knows their order.

Facts and stamps are packed because a merge of a 23 kB report then takes Redis 28 us, where a field for each stamp takes
53, and a record 8.2 kB instead of 10.4.

The first layout packs 19 small facts into one field of the call's hash (``facts``), their stamps and those of the large
facts into another (``stamps``). Replicas of version 0.1.0, which wrote it, unpack exactly 19 facts there.
So later facts are in a third field (``facts2``), each after its own stamp, and those replicas leave that field alone.
It may grow: a reader takes the facts that it knows and leaves the rest of the field as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import astuple, replace

from service.calls.ended_reasons import meaning_of
from service.calls.facts import LARGE_FACTS, SMALL_FACTS, Facts
from service.calls.phone import phone_digests
from service.calls.stamped_call import StampedCall
from service.calls.stored_call import CallChange, StoredCall
from service.redis_client.command import Argument

SEPARATOR: Final = b"\x1f"
"""Follows each fact: a control character that valid JSON text never contains."""

FIRST_FACTS: Final = SMALL_FACTS[:19]
"""The facts of the first layout: the phone first, the ended reason second."""

LATER_FACTS: Final = SMALL_FACTS[19:]

_FIRST: Final = slice(len(FIRST_FACTS))
_LATER: Final = slice(len(FIRST_FACTS), len(SMALL_FACTS))
_LARGE: Final = slice(len(SMALL_FACTS), None)
"""The places of the three kinds of facts among all."""

LARGE_FIELDS: Final = {name: str(number) for number, name in enumerate(LARGE_FACTS, 1)}
"""The field of the call's hash that holds each of the large facts."""

STAMP_DIGITS: Final = 17

STAMPED_FIELDS: Final = (
    "state", "facts", "facts2", "stamps", "no_analysis", "deleted_at_vapi", "raw", "raw_stamp",
    *LARGE_FIELDS.values(),
)  # fmt: skip
"""The fields of the call's hash that the archive needs."""

SPOOL_LAYOUT: Final = 1
"""Raise it only when an older version would merge a spooled change wrongly. Facts added by name do not need it."""


class UnreadableChangeError(Exception):
    """A spooled change is damaged."""


class UnknownLayoutError(Exception):
    """A later version wrote this spooled change; that version will read it."""


class _SpooledChange(msgspec.Struct):
    """A change as it is written to the spool: the facts of the first layout in their order, later ones by name."""

    call_id: bytes
    rank: int
    timestamp_ms: int
    status: int
    ending: int
    small: tuple[bytes, ...]
    large: tuple[bytes, ...]
    layout: int = SPOOL_LAYOUT
    later: dict[str, bytes] = {}
    token: bytes = b""
    raw: bytes = b""


_DECODER: Final = msgspec.msgpack.Decoder(_SpooledChange)
_decode_numbers: Final = msgspec.json.Decoder(list[int]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def change_arguments(
    change: CallChange, token: bytes, *, digests: bytes = b"", raw: bytes = b""
) -> tuple[Argument, ...]:
    """The change's part of merge_call.lua's ARGV."""
    texts = astuple(change.facts)
    return (
        change.stamp,
        change.status,
        int(change.ending),
        b"1" if change.rules_out_analysis else b"0",
        SEPARATOR.join((*texts[_FIRST], b"")),
        SEPARATOR.join((*texts[_LATER], b"")),
        token,
        digests,
        raw,
        *texts[_LARGE],
    )


def no_change_arguments(token: bytes) -> tuple[Argument, ...]:
    """As ``change_arguments``, where only time has passed."""
    stamp = facts = later = digests = raw = b""
    status, ending, rules_out_analysis = 0, 0, b"0"
    return (stamp, status, ending, rules_out_analysis, facts, later, token, digests, raw)


def number_digests(change: CallChange) -> bytes:
    """Digests of the phone numbers that a change names, as merge_call.lua takes them."""
    return "".join(f"{digest} " for digest in phone_digests(change.facts)).encode() or b"-"


def decode_stored_call(
    call_id: bytes,
    state: bytes,
    first: bytes,
    later: bytes | None,
    large_names: tuple[str, ...] = (),
    large: Sequence[bytes | None] = (),
) -> StoredCall:
    """A record from the fields of its hash: ``state``, ``facts``, ``facts2`` and the large facts that were read."""
    # Read as a JSON array: int() for each number takes twice as long.
    (
        version, created_at_ms, updated_at_ms, expires_at_ms, status, ending, over_at_ms, data_status,
        _was_final, _was_complete, has_transcript,
    ) = _decode_numbers(b"[%b]" % state.replace(b" ", b","))  # fmt: skip
    texts = first.split(SEPARATOR)[_FIRST]
    if later:
        texts += [stamped[STAMP_DIGITS:] for stamped in later.split(SEPARATOR)]
        del texts[_LARGE]  # what follows the facts that this version knows
    facts = Facts(*texts)
    facts.ended_reason = facts.ended_reason[1:]  # without the mark that merge_call.lua keeps before it
    for name, text in zip(large_names, large, strict=True):
        setattr(facts, name, text or b"")
    return StoredCall(
        call_id=call_id,
        version=version,
        created_at_ms=created_at_ms,
        updated_at_ms=updated_at_ms,
        expires_at_ms=expires_at_ms,
        status=status,
        ending=ending,
        over_at_ms=over_at_ms,
        data_status=data_status,
        has_transcript=has_transcript == 1,
        facts=facts,
    )


def decode_stamped_call(call_id: bytes, fields: Mapping[str, bytes | None]) -> StampedCall:
    """A record with its stamps, from the fields STAMPED_FIELDS of its hash."""
    state, first, later = fields["state"] or b"", fields["facts"] or b"", fields["facts2"]
    large = [fields[field] for field in LARGE_FIELDS.values()]
    call = decode_stored_call(call_id, state, first, later, LARGE_FACTS, large)
    packed = fields["stamps"] or b""
    each = [packed[start : start + STAMP_DIGITS] for start in range(0, len(packed), STAMP_DIGITS)]
    stamps = dict(zip((*FIRST_FACTS, *LARGE_FACTS), each, strict=False))
    if later:
        stamps |= zip(LATER_FACTS, (stamped[:STAMP_DIGITS] for stamped in later.split(SEPARATOR)), strict=False)
    marked = first.split(SEPARATOR, 2)[1]
    return StampedCall(
        call,
        {name: stamps[name] for name in call.facts.known()},
        no_analysis=fields["no_analysis"] is not None or marked[:1] == b"1",
        deleted_at_vapi=fields["deleted_at_vapi"] is not None,
        raw=fields["raw"] or b"",
        raw_stamp=fields["raw_stamp"] or b"",
    )


def encode_spooled(change: CallChange) -> bytes:
    """A change as the spool keeps it. A process of version 0.1.0 can merge it, but without the later facts."""
    facts = change.facts
    if facts.ended_reason:
        mark = b"1" if change.rules_out_analysis else b"0"
        facts = replace(facts, ended_reason=mark + facts.ended_reason)
    texts, known = astuple(facts), facts.known()
    return msgspec.msgpack.encode(
        _SpooledChange(
            call_id=change.call_id,
            rank=change.rank,
            timestamp_ms=change.timestamp_ms,
            status=change.status,
            ending=change.ending,
            small=texts[_FIRST],
            large=texts[_LARGE],
            later={name: known[name] for name in LATER_FACTS if name in known},
            token=change.token,
            raw=change.raw,
        )
    )


def decode_spooled(text: bytes) -> CallChange:
    """Raises UnreadableChangeError or UnknownLayoutError."""
    try:
        layout = msgspec.msgpack.decode(text, type=_Layout).layout
        if layout != SPOOL_LAYOUT:
            raise UnknownLayoutError(f"it has layout {layout}, this version reads {SPOOL_LAYOUT}")
        return _change_of(_DECODER.decode(text))
    except msgspec.DecodeError as exc:
        raise UnreadableChangeError("it is damaged") from exc


def _change_of(spooled: _SpooledChange) -> CallChange:
    named = dict(zip(FIRST_FACTS + LARGE_FACTS, spooled.small + spooled.large, strict=False))
    named |= {name: text for name, text in spooled.later.items() if name in LATER_FACTS}
    facts = Facts(**named)
    # Version 0.1.0 also kept passing states of running calls.
    reason = facts.ended_reason = facts.ended_reason[1:] if spooled.ending else b""
    rules_out = reason != b"" and meaning_of(_decode_text(reason)).rules_out_analysis
    return CallChange(
        call_id=spooled.call_id,
        rank=spooled.rank,
        timestamp_ms=spooled.timestamp_ms,
        status=spooled.status,
        ending=spooled.ending,
        rules_out_analysis=rules_out,
        facts=facts,
        token=spooled.token,
        raw=spooled.raw,
    )


class _Layout(msgspec.Struct):
    layout: int = SPOOL_LAYOUT
