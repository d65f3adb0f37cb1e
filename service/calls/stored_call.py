"""What the store is given of a call and what it gives back."""

from __future__ import annotations

import os
from typing import Final

import msgspec


def new_token() -> bytes:
    """Names one request to a script, so that sending it again can be told from another request."""
    return os.urandom(8).hex().encode()


class CallChange(msgspec.Struct, frozen=True):
    """What one event says of a call, ready to be merged."""

    call_id: bytes
    rank: int
    """0..9: which kind of event outweighs which."""
    timestamp_ms: int
    """The event's own, 0 when it has none; fewer than 17 digits."""
    status: int
    """Position among the statuses, from 1; 0 when the event gives none."""
    ending: int
    """How far the event ends the call, see Ending."""
    rules_out_analysis: bool
    """True when the event says that the call is over for a reason after which no analysis can come."""
    facts: dict[str, bytes]
    """JSON text by the fact's name; what the event does not say is left out."""
    token: bytes = b""
    """Every merge of this change carries it; each has one of its own where it is empty. Redis may apply a merge whose
    reply comes too late: when the change is merged again, also out of the spool, that reply tells what it was the first
    to bring about."""

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
    """When the first event that says the call is over was applied; 0 while none was."""
    data_status: int
    has_transcript: bool
    facts: dict[str, bytes]
    """JSON text by the fact's name, empty where nothing is known; of the large ones only what the view asked for."""


class Merged(msgspec.Struct, frozen=True):
    """What a merge did."""

    is_deleted: bool
    is_changed: bool
    became_final: StoredCall | None
    """The record as it was when it became final for the first time, without its large facts."""
    became_complete: bool


class Tombstone(msgspec.Struct, frozen=True):
    """Where a deleted call's record was."""


class UnknownToVapi(Tombstone, frozen=True):
    """VAPI answered 404 twice. Pollers see the call as deleted until a message of it arrives."""


TOMBSTONE: Final = Tombstone()
UNKNOWN_TO_VAPI: Final = UnknownToVapi()
