"""The layout of spooled changes: whoever changes the facts or their order must give it another number."""

from __future__ import annotations

import zlib

from service.calls.facts import LARGE_FACTS, SMALL_FACTS
from service.store.shapes import LAYOUT

KNOWN = {1: 2495212739}


def test_the_facts_and_their_order_are_those_of_the_layout() -> None:
    """Fails when they changed: raise LAYOUT in service/store/calls.py and add its sum here."""
    assert zlib.crc32(repr((SMALL_FACTS, LARGE_FACTS)).encode()) == KNOWN[LAYOUT]
