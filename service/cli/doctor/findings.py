"""What the doctor finds: a level, what it means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Level = Literal["ok", "warning", "error"]

LEVELS: Final[tuple[Level, ...]] = ("ok", "warning", "error")
"""From good to bad. A level's position is the exit status."""


class Finding(msgspec.Struct, frozen=True):
    """``check`` says what was looked at, in a word or two; ``found`` is one sentence."""

    level: Level
    check: str
    found: str
    advice: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding("ok", check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Works now, but loses something in a fault, or costs more than it must."""
    return Finding("warning", check, found, advice)


def error(check: str, found: str, advice: str) -> Finding:
    """Something does not work, or loses what was acknowledged."""
    return Finding("error", check, found, advice)


def worst_of(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), key=LEVELS.index, default="ok")
