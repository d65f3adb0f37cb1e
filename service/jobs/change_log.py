"""The latest change of each call as an event, in order. It is plain data: jobs/change_feed.py fills it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

import msgspec

from service.event_format import render_event

MAX_CALLS: Final = 10_000
"""Calls in the log. Readers whose position was before what is dropped are told of a gap."""

EVENTS_AT_ONCE: Final = 256
"""Events that are read together: about 60 kB."""

CHUNKS_KEPT: Final = 4
"""Most readers are at the same position, and share the same bytes."""

_LOST: Final = b""
"""Stands for the call's id in the entry of a gap."""

_NO_ETAG: Final = b""


class Events(msgspec.Struct, frozen=True):
    """What a reader gets at once."""

    text: bytes
    count: int
    position: int
    """The reader's position after it."""


class _Entry(msgspec.Struct, frozen=True):
    position: int
    etag: bytes
    event: bytes


class ChangeLog:
    """A position is the number of an entry. An event's id is the position after a token of this process."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(6).encode()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._chunks: dict[int, Events] = {}
        self._dropped_up_to = 0
        """Of the entries up to this position, some are not here any more."""
        self.position = 0
        """That of the latest entry."""

    def add_change(self, call_id: bytes, etag: bytes, data: bytes) -> bool:
        """False where the log has the call with just that ETag."""
        known = self._entries.get(call_id)
        if known is not None and known.etag == etag:
            return False
        self._append(call_id, etag, b"call", data)
        return True

    def add_deletion(self, call_id: bytes) -> bool:
        """False where the log has it."""
        known = self._entries.get(call_id)
        if known is not None and known.etag == _NO_ETAG:
            return False
        self._append(call_id, _NO_ETAG, b"gone", b'{"call_id":"%b"}' % call_id)
        return True

    def add_gap(self) -> None:
        """Changes may have been missed until now."""
        self._append(_LOST, _NO_ETAG, b"gap", b"{}")

    def forget_all(self) -> None:
        """Every reader that comes back from before finds a gap."""
        self._entries.clear()
        self._chunks.clear()
        self.position += 1
        self._dropped_up_to = self.position

    def id_of(self, position: int) -> bytes:
        return b"%b-%d" % (self._token, position)

    def find_position(self, event_id: bytes) -> int | None:
        """The position that an event's id stands for; None for one of another process."""
        token, _, digits = event_id.partition(b"-")
        if token != self._token or not digits.isdigit() or len(digits) > len(b"%d" % self.position):
            return None
        position = int(digits)
        return position if position <= self.position else None

    def gap_at(self, position: int) -> Events:
        return Events(render_event(b"gap", b"{}", self.id_of(position)), 1, position)

    def find_after(self, position: int) -> Events | None:
        """The next events after a position, at most EVENTS_AT_ONCE; None where it is the latest."""
        if position == self.position:
            return None
        if position < self._dropped_up_to:
            return self.gap_at(self._dropped_up_to)
        found = self._chunks.get(position)
        if found is None:
            if len(self._chunks) >= CHUNKS_KEPT:
                self._chunks.clear()
            found = self._chunks[position] = self._join_after(position)
        return found

    def _join_after(self, position: int) -> Events:
        newer = []
        for entry in reversed(self._entries.values()):
            if entry.position <= position:
                break
            newer.append(entry)
        next_ones = newer[-EVENTS_AT_ONCE:]
        return Events(b"".join([entry.event for entry in reversed(next_ones)]), len(next_ones), next_ones[0].position)

    def _append(self, key: bytes, etag: bytes, name: bytes, data: bytes) -> None:
        self.position += 1
        self._entries[key] = _Entry(self.position, etag, render_event(name, data, self.id_of(self.position)))
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_CALLS:
            _, dropped = self._entries.popitem(last=False)
            self._dropped_up_to = dropped.position
        self._chunks.clear()
