"""The text of server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import re
from typing import Final

HEARTBEAT: Final = b":\n\n"
"""A comment, which clients pass over."""

_LINE_BREAK: Final = re.compile(rb"[\r\n]")


def render_event(name: bytes, data: bytes, event_id: bytes | None = None) -> bytes:
    """One event. ``data`` is JSON; a line break in it, which can only be white space, becomes a space."""
    if _LINE_BREAK.search(data):
        data = _LINE_BREAK.sub(b" ", data)
    line_of_id = b"" if event_id is None else b"id: %b\n" % event_id
    return b"event: %b\n%bdata: %b\n\n" % (name, line_of_id, data)


def render_id(event_id: bytes) -> bytes:
    """No event: only the id that a client sends as ``Last-Event-ID`` when it comes back."""
    return b"id: %b\n\n" % event_id


def render_retry(milliseconds: int) -> bytes:
    """No event: after how long EventSource comes back."""
    return b"retry: %d\n\n" % milliseconds
