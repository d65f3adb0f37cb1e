"""Events for the store, and the record that they leave, as a poll would show it."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from typing import Any, Final

from service.calls.facts import Facts
from service.calls.record import LARGE_OF_VIEW, render_record
from service.calls.stamped_call import StampedCall
from service.calls.status import CALL_DELETED_OFFSET_MS, DataStatus
from service.calls.stored_call import CallChange, StoredCall
from service.errors import StoreUnavailableError
from service.store.calls import CallStore
from service.store.changes import Watch
from service.vapi.intake import change_of
from service.vapi.messages import decode_message
from tests.support.eventually import PATIENCE_S, eventually

FAR_S: Final = 600.0
WOKEN_WITHIN_S: Final = PATIENCE_S

NOT_OF_THE_MERGE: Final = frozenset(("id", "call_id", "version", "created_at", "updated_at", "expires_at"))
"""What may differ between two calls that got the same messages in another order."""


def change_from(body: dict[str, Any]) -> CallChange:
    """What the service makes of a webhook's body."""
    change = change_of(decode_message(json.dumps(body).encode()), secrets.token_hex(8).encode()).change
    assert change is not None
    return change


def change(
    call_id: str = "call-1",
    *,
    rank: int = 0,
    at_ms: int = 0,
    status: int = 0,
    ending: int = 0,
    rules_out_analysis: bool = False,
    **facts: str,
) -> CallChange:
    """A change with the named facts, each JSON text."""
    return CallChange(
        call_id=call_id.encode(),
        rank=rank,
        timestamp_ms=at_ms,
        status=status,
        ending=ending,
        rules_out_analysis=rules_out_analysis,
        facts=Facts(**{name: text.encode() for name, text in facts.items()}),
    )


def lifetime_of(event: CallChange) -> StampedCall:
    """What a record holds that got only this event, at the time that it says itself."""
    updated_at_ms = max(1000, event.timestamp_ms % CALL_DELETED_OFFSET_MS)
    is_complete = event.ending == 3 or (event.ending == 2 and event.rules_out_analysis)
    data_status = DataStatus.COMPLETE if is_complete else DataStatus.PARTIAL if event.ending else DataStatus.PENDING
    call = StoredCall(
        event.call_id, 1, 1000, updated_at_ms, 1000, event.status, event.ending, 1000 if event.ending else 0, data_status,
        event.facts.transcript != b"", event.facts,
    )  # fmt: skip
    return StampedCall(call, dict.fromkeys(event.facts.known(), event.stamp), event.rules_out_analysis)


async def stored(store: CallStore, call_id: str = "call-1") -> StoredCall:
    call = await store.find(call_id.encode(), LARGE_OF_VIEW["full"])
    assert isinstance(call, StoredCall)
    return call


async def record(store: CallStore, call_id: str = "call-1") -> dict[str, Any]:
    """The full record, decoded."""
    decoded: dict[str, Any] = json.loads(render_record(await stored(store, call_id), "full"))
    return decoded


async def merged_facts(store: CallStore, call_id: str = "call-1") -> dict[str, Any]:
    """The record without what depends on when and how often its messages came."""
    whole = await record(store, call_id)
    return {name: value for name, value in whole.items() if name not in NOT_OF_THE_MERGE}


async def until_taken(store: CallStore, one: CallChange) -> None:
    """Return when Redis took the change: on a busy machine also one that is well may be late."""

    async def is_taken() -> bool:
        with suppress(StoreUnavailableError):
            await store.merge(one)
            return True
        return False

    await eventually(is_taken)


def in_seconds(seconds: float = FAR_S) -> float:
    """A deadline, in the loop's time."""
    return asyncio.get_running_loop().time() + seconds


async def is_woken(watch: Watch, within_s: float = WOKEN_WITHIN_S) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await watch.wait_until(in_seconds())
    except TimeoutError:
        return False
    return True
