"""What goes into the store for a call, and what comes back."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from service.calls.facts import Facts
from service.calls.status import DataStatus


def new_token() -> bytes:
    """Identifies one request to a script, to tell a repetition from another request."""
    return b"%016x" % random.getrandbits(64)


class CallChange(msgspec.Struct, frozen=True):
    """What one message says of a call, or VAPI's API when it was asked: ready to be merged."""

    call_id: bytes
    rank: int
    """0..9: which kind of message outweighs which."""
    timestamp_ms: int
    """The message's own, 0 if it has none; that of call.deleted is raised by 2**53 (status.py). Fewer than 17 digits."""
    status: int
    """Position among the statuses, from 1; 0 when the message gives none."""
    ending: int
    """How far the message ends the call, see Ending."""
    rules_out_analysis: bool
    """True when the message says that the call is over for a reason after which no analysis can come."""
    facts: Facts
    """The facts that the message gives."""
    token: bytes = b""
    """Sent with every merge of this change; if it is empty, each merge has a token of its own. Redis may apply a merge
    whose reply comes too late. When the change is merged again, also from the spool, the reply to that merge repeats
    what the first one brought about."""
    raw: bytes = b""
    """The message as the archive keeps it; empty without ARCHIVE_RAW_PAYLOAD."""

    @property
    def stamp(self) -> bytes:
        return b"%d%016d" % (self.rank, self.timestamp_ms)


class StoredCall(msgspec.Struct, frozen=True):
    """A record as it is stored. Times are epoch milliseconds by Redis's clock."""

    call_id: bytes
    version: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    status: int
    ending: int
    over_at_ms: int
    """When the first message that ends the call was applied; 0 if none was."""
    data_status: int
    has_transcript: bool
    facts: Facts
    """The facts that are known. Of the large ones only those that were asked for."""
    is_archived: bool = False
    """True when it was read from the archive, also with what Redis has of a later lifetime."""

    @property
    def is_final(self) -> bool:
        return DataStatus(self.data_status).is_final


class Merged(msgspec.Struct, frozen=True):
    """The result of a merge."""

    is_deleted: bool
    is_changed: bool
    became_final: StoredCall | None
    """The record as it was when it became final for the first time, without its large facts."""
    became_complete: bool


class Tombstone(msgspec.Struct, frozen=True):
    """Stands for the record of a deleted call."""


class UnknownToVapi(Tombstone, frozen=True):
    """VAPI answered 404 twice. Pollers see the call as deleted until a message of it arrives."""


TOMBSTONE: Final = Tombstone()
UNKNOWN_TO_VAPI: Final = UnknownToVapi()
