"""The form of call ids."""

from __future__ import annotations

import re
from typing import Final

CALL_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
"""VAPI's own are UUIDs. Others must fit into a URL's path and a key of Redis."""


def is_call_id(text: str) -> bool:
    return CALL_ID.fullmatch(text) is not None
