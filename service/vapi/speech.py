"""Reads from a report's messages and transcript whether the customer spoke, and what was said. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from service.vapi.coercion import is_blank

CUSTOMER_ROLES: Final = frozenset(("user", "customer"))
ASSISTANT_ROLES: Final = frozenset(("bot", "assistant"))

ASSISTANT_LABELS: Final = frozenset(("ai", "assistant", "bot"))
"""Labels of the assistant's lines in a transcript. ``transcriptPlan.assistantName`` may set another one.

https://docs.vapi.ai/api-reference/assistants/create#request.body.artifactPlan.transcriptPlan
"""

_LABEL: Final = re.compile(r"\s*([^\W_][\w .'’-]{0,39}?)\s*(?::(?=\s|$)|：)(.*)")
"""A speaker's name and a colon. The colon in a time (10:30) or a URL (https://) has no white space after it."""


class _Message(msgspec.Struct, gc=False):
    """The fields that are read. The rest is never decoded: it may hold a number too large for any type."""

    role: str
    message: msgspec.Raw = msgspec.Raw(b'""')
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Part(msgspec.Struct, gc=False):
    text: str


_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_SAID: Final = msgspec.json.Decoder(str | list[msgspec.Raw])
_PART: Final = msgspec.json.Decoder(_Part)


def customer_spoke(messages: bytes, transcript: bytes, assistant_name: str | None) -> bool | None:
    """Whether the customer said anything; None when neither messages nor transcript show it.

    Args:
        messages: a JSON array of messages; empty bytes without one.
        transcript: a JSON string; empty bytes without one.
        assistant_name: the transcript's name for the assistant, in addition to ASSISTANT_LABELS.
    """
    spoke = _customer_spoke_in(messages) if messages else None
    if spoke is None and transcript:
        spoke = _is_customer_in(msgspec.json.decode(transcript, type=str), assistant_name)
    return spoke


def transcript_of(lines: bytes) -> str:
    """Converts a transcript from a list of ``{role, message|content}`` to text; "" when nobody says anything in it."""
    labels = {**dict.fromkeys(ASSISTANT_ROLES, "AI"), **dict.fromkeys(CUSTOMER_ROLES, "User")}
    said = ((labels.get(role), text) for role, text in _said_in(lines))
    return "".join(f"{label}: {text}\n" for label, text in said if label and text)


def _customer_spoke_in(messages: bytes) -> bool | None:
    """None when no message is from the customer or the assistant."""
    has_assistant = False
    for role, text in _said_in(messages):
        if role in CUSTOMER_ROLES and text:
            return True
        has_assistant = has_assistant or role in ASSISTANT_ROLES
    return False if has_assistant else None


def _said_in(messages: bytes) -> Iterator[tuple[str, str]]:
    """Each message's role and text; "" when the text is blank or missing. Entries that are not messages are skipped."""
    try:
        entries = _ENTRIES.decode(messages)
    except msgspec.ValidationError:  # not an array
        return
    for entry in entries:
        try:
            message = _MESSAGE.decode(entry)
        except msgspec.ValidationError:  # not an object, or its role is not text
            continue
        yield message.role.strip().lower(), _text_of(message.message) or _text_of(message.content)


def _text_of(said: msgspec.Raw) -> str:
    """The text of VAPI's format, or the joined parts of OpenAI's, which has a list of parts."""
    try:
        text = _SAID.decode(said)
    except msgspec.ValidationError:
        return ""
    if not isinstance(text, str):
        text = " ".join(filter(None, (_part_text(part) for part in text)))
    return "" if is_blank(text) else text


def _part_text(part: msgspec.Raw) -> str:
    try:
        return _PART.decode(part).text
    except msgspec.ValidationError:
        return ""


def _is_customer_in(transcript: str, assistant_name: str | None) -> bool:
    """True when a label other than the assistant's has text. Text before any label counts as the customer's."""
    labels = ASSISTANT_LABELS | {assistant_name.strip().casefold()} if assistant_name else ASSISTANT_LABELS
    is_assistant = False
    for line in transcript.splitlines():
        labelled = _LABEL.fullmatch(line)
        if labelled:
            is_assistant = labelled[1].casefold() in labels
        text = labelled[2] if labelled else line
        if not is_assistant and not is_blank(text):
            return True
    return False
