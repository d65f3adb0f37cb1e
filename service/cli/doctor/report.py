"""Prints findings for people or for programs. Control characters and secrets do not get through."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from service import __version__
from service.cli.doctor.findings import LEVELS, Finding, worst_of
from service.config import Secret, Settings

SHORTEST_HIDDEN: Final = 4
"""A shorter secret would be found in every other word."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Texts from VAPI, Kestra and Redis are printed on a terminal."""

Report = Mapping[str, list[Finding]]
"""The findings by what they are about."""


def clean(report: Report, settings: Settings) -> dict[str, list[Finding]]:
    """The report with every secret of the settings hidden. No check prints one; this is for texts from elsewhere."""
    secrets = sorted(set(_secrets_of(settings)), key=len, reverse=True)

    def cleaned(text: str | None) -> str | None:
        for secret in secrets:
            text = text and text.replace(secret, "***")
        return text and _CONTROL.sub(" ", text)

    return {
        part: [
            Finding(each.level, each.check, cleaned(each.found) or "", cleaned(each.advice) or None)
            for each in findings
        ]
        for part, findings in report.items()
    }


def _secrets_of(settings: Settings) -> Iterator[str]:
    for value in msgspec.structs.astuple(settings):
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Secret):
                yield from _long_enough(each.reveal())
            elif isinstance(each, str) and "://" in each:
                yield from _long_enough(urlsplit(each.replace(",", "-")).password or "")


def _long_enough(secret: str) -> Iterator[str]:
    for form in (secret, unquote(secret)):
        if len(form) >= SHORTEST_HIDDEN:
            yield form


def as_json(report: Report) -> str:
    findings = [{"part": part, **msgspec.to_builtins(each)} for part, each in _flat(report)]
    told: dict[str, Any] = {"version": __version__, "worst": worst_of(each for _, each in _flat(report))}
    return json.dumps({**told, "counts": _counts(report), "findings": findings}, indent=2, ensure_ascii=False)


def as_text(report: Report) -> str:
    """One line per finding, columns aligned, with what to do below it."""
    widths = [
        max((len(text) for text in texts), default=0)
        for texts in (LEVELS, [part for part, _ in _flat(report)], [each.check for _, each in _flat(report)])
    ]
    indent = " " * (sum(widths) + 2 * len(widths))
    lines = []
    for part, each in _flat(report):
        columns = (text.ljust(width) for text, width in zip((each.level, part, each.check), widths, strict=True))
        lines.append("  ".join((*columns, each.found)))
        if each.advice:
            lines.append(f"{indent}-> {each.advice}")
    return "\n".join([*lines, "", ", ".join(f"{count} {level}" for level, count in _counts(report).items())])


def _flat(report: Report) -> Iterator[tuple[str, Finding]]:
    return ((part, finding) for part, findings in report.items() for finding in findings)


def _counts(report: Report) -> dict[str, int]:
    counts = Counter(each.level for _, each in _flat(report))
    return {level: counts[level] for level in LEVELS}
