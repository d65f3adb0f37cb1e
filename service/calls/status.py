"""The statuses of a call, their order, and which message outweighs which. Only this module defines them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

STATUSES: Final = ("scheduled", "queued", "ringing", "in-progress", "forwarding", "ended")
"""In the order of a call's life. VAPI also has not-found and deletion-failed, which are not stages of a call."""

SNAPSHOT_STATUSES: Final = STATUSES[:3]
"""Values of ``message.call.status`` that may be true: VAPI writes it at the call's creation and never updates it."""

ENDED: Final = STATUSES.index("ended") + 1


def rank_of(status: str | None) -> int:
    """Position in the life of a call, from 1; 0 for None and for a status that is not a stage of it."""
    return STATUSES.index(status) + 1 if status in STATUSES else 0


def status_at(rank: int) -> str | None:
    """The status at that position; None at 0."""
    return STATUSES[rank - 1] if rank else None


class Ending(IntEnum):
    """How far a message ends a call."""

    NONE = 0
    OVER = 1
    """The call ended; its report is still to come."""
    PRELIMINARY_REPORT = 2
    FULL_REPORT = 3
    """Also used when the call was deleted at VAPI, so that nothing more will come."""


class Rank(IntEnum):
    """Which kind of message outweighs which, whatever their timestamps. A status has the rank of ``rank_of``."""

    OTHER_MESSAGE = 0
    PRELIMINARY_REPORT = ENDED + 1
    FULL_REPORT = ENDED + 2
    FULL_REPORT_WITH_ANALYSIS = ENDED + 3


CALL_DELETED_RANK: Final = STATUSES.index("forwarding") + 1
CALL_DELETED_OFFSET_MS: Final = 2**53
"""``call.deleted`` ranks between forwarding and ended, where no digit is free. So it counts as a forwarding later than
any other: the timestamps of messages are below 2^53.
"""

MAX_STAMPED_MS: Final = 10**16 - 1
"""A stamp has 16 digits for the timestamp."""


def stamped_at_ms(stamp: bytes) -> int:
    """The timestamp of the message that has this stamp (a digit for the rank, 16 for the timestamp); 0 if it had none."""
    timestamp = int(stamp[1:])
    return timestamp - CALL_DELETED_OFFSET_MS if timestamp >= CALL_DELETED_OFFSET_MS else timestamp


class DataStatus(IntEnum):
    """How much of a call's result is here; the numbers are those of store/lua/record_fields.lua."""

    PENDING = 0
    PARTIAL = 1
    COMPLETE = 2
    FETCH_FAILED = 3

    @property
    def is_final(self) -> bool:
        return self >= DataStatus.COMPLETE
