"""A call's record together with its stamps: what two lifetimes of a call need in order to be merged."""

from __future__ import annotations

import msgspec

from service.calls.stored_call import StoredCall


class StampedCall(msgspec.Struct, frozen=True):
    """A record as it is in Redis or in the archive, with what the merge knows of its facts."""

    call: StoredCall
    """With its large facts."""
    stamps: dict[str, bytes]
    """For each fact of ``call`` the stamp of the message that gave it: 17 digits, the rank, then the timestamp in ms."""
    no_analysis: bool
    """True once a message said that the call is over for a reason after which no analysis can come."""
    deleted_at_vapi: bool = False
    """True once ``call.deleted`` was applied. The archive then keeps no transcript, messages, recording or analysis."""
    raw: bytes = b""
    """The webhook with the highest stamp as JSON, without secrets; empty without ARCHIVE_RAW_PAYLOAD."""
    raw_stamp: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Of all that takes room: the facts and the raw webhook."""
        return len(self.raw) + sum(map(len, msgspec.structs.astuple(self.call.facts)))
