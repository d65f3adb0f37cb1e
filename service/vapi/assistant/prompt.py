"""Fills a call request into the assistant's texts so that values cannot act in a prompt. Pure, except for the file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import msgspec

from service.calls.call_request import CallRequest

URGENCY_IN_WORDS: Final = {
    "immediate": "as soon as possible, today",
    "within_24_hours": "within the next 24 hours",
    "within_2_days": "within the next two days",
    "flexible": "flexible, no particular day",
}

PARAGRAPHS: Final = frozenset({"userCriteria", "problemDescription", "customPrompt"})
"""The fields that may run over several lines; the others are one line each."""

_HARMLESS: Final = str.maketrans("<>{}", "‹›()")
"""Angle brackets could close the tag around a value. VAPI renders braces as Liquid templates."""

_HEADING: Final = re.compile(r"(?:#+ )+")
"""A heading starts a section of the prompt, so no value may begin with one."""

REQUEST_FIELDS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(CallRequest))

MAX_GROWTH: Final = 3
"""A fraction sign becomes three characters. More growth is cut off."""

_PLACEHOLDER: Final = re.compile(r"\{\{([A-Za-z]+)\}\}")


def read_prompt() -> str:
    """The system prompt with its placeholders: ``{{providerName}}`` and so on, and VAPI's own ``{{now}}``."""
    return files("service.vapi.assistant").joinpath("prompt.md").read_text(encoding="utf-8")


def values_of(request: CallRequest) -> dict[str, str]:
    """The request's values by placeholder name, safe to put into a prompt. Empty fields are left out."""
    given: dict[str, str] = msgspec.to_builtins(request)
    given["urgency"] = URGENCY_IN_WORDS[request.urgency]
    values = {name: clean(text, keeps_lines=name in PARAGRAPHS) for name, text in given.items()}
    return {name: value for name, value in values.items() if value}


def clean(text: str, *, keeps_lines: bool = False) -> str:
    """The text without what could act in a prompt: invisible characters, tags, templates, headings, blank lines."""
    # NFKC first: models read a fullwidth bracket as one. It makes 18 letters of some signs, so limit the growth.
    normal = unicodedata.normalize("NFKC", text)[: MAX_GROWTH * len(text)].translate(_HARMLESS)
    lines = [_plain(line) for line in normal.splitlines()]
    return ("\n" if keeps_lines else " ").join(line for line in lines if line)


def _plain(line: str) -> str:
    text = " ".join("".join(map(_visible, line)).split())
    heading = _HEADING.match(text)
    return text[heading.end() :] if heading else text


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return "" if category[0] == "C" else character


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with the request's placeholders replaced in one pass, so values are never expanded again.

    A line with a placeholder that has no value is left out. Other placeholders belong to VAPI and stay.
    """
    return "".join(_filled(line, values) for line in template.splitlines(keepends=True))


def _filled(line: str, values: Mapping[str, str]) -> str:
    names = REQUEST_FIELDS.intersection(_PLACEHOLDER.findall(line))
    if not names <= values.keys():
        return ""
    return _PLACEHOLDER.sub(lambda found: values[found[1]] if found[1] in names else found[0], line)
