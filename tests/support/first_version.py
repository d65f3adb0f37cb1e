"""Version 0.1.0 at work on the same Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from service.store.keys import bucket_of
from tests.support.opened_store import OpenedStore

FOLDER: Final = Path(__file__).parents[1] / "samples" / "first_layout"
SPOOLED: Final[dict[str, str]] = json.loads((FOLDER / "spooled.json").read_text())


class FirstVersion:
    """What version 0.1.0 does to a record: its own script, and how it takes a record apart."""

    def __init__(self, opened: OpenedStore) -> None:
        self._opened = opened
        self._script = (FOLDER / "merge_call.lua").read_text()

    async def merge(self, name: str, call_id: str) -> None:
        change = msgspec.msgpack.decode(bytes.fromhex(SPOOLED[name]), type=dict[str, Any])
        keys, bucket = self._opened.keys, bucket_of(call_id.encode())
        stamp = b"%d%016d" % (change["rank"], change["timestamp_ms"])
        await self._opened.redis.eval(
            self._script, 8,
            keys.call(call_id.encode()), *keys.indices[bucket], keys.subscriptions[bucket] + call_id.encode(),
            call_id, keys.changes, keys.phones[bucket], 1_800_000, 46_800_000, 60_000, "1",
            stamp, change["status"], change["ending"], b"\x1f".join(change["small"]) + b"\x1f", "token",
            *change["large"],
        )  # fmt: skip

    async def read(self, call_id: str) -> dict[str, Any]:
        """Fails where that version would have answered 500: it unpacks 11 numbers and 19 facts, all of them JSON."""
        key = self._opened.keys.call(call_id.encode())
        flat = await self._opened.redis.execute_command("HGETALL", key)  # type: ignore[no-untyped-call]
        fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        numbers = [int(number) for number in fields[b"state"].split()]
        facts = fields[b"facts"].split(b"\x1f")[:-1]
        assert (len(numbers), len(facts), len(fields[b"stamps"])) == (11, 19, 17 * 23)
        reason = facts[1]
        assert reason[:1] in {b"", b"0", b"1"}
        values = [*facts[:1], reason[1:], *facts[2:], *(fields.get(b"%d" % number, b"") for number in range(1, 5))]
        return {"data_status": numbers[7], "facts": [json.loads(value or b"null") for value in values]}
