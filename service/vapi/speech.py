"""Who spoke on a call, and what was said as lines of text: read from a report's messages and its transcript. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from service.vapi.coercion import is_blank

CUSTOMER_ROLES: Final = frozenset(("user", "customer"))
ASSISTANT_ROLES: Final = frozenset(("bot", "assistant"))

ASSISTANT_LABELS: Final = frozenset(("ai", "assistant", "bot"))
"""How a transcript's line begins that the assistant said, unless ``transcriptPlan.assistantName`` gives it another name.

https://docs.vapi.ai/api-reference/assistants/create#request.body.artifactPlan.transcriptPlan
"""

_LABEL: Final = re.compile(r"\s*([^\W_][\w .'’-]{0,39}?)\s*(?::(?=\s|$)|：)(.*)")
"""A speaker's name before a colon. A time (10:30) and an address (https://) have no white space behind theirs."""


class _Message(msgspec.Struct, gc=False):
    """What is read of a message. The rest is never decoded: it may hold a number too large for any type."""

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
    """Whether the person on the line said anything; None where neither messages nor transcript tell.

    Args:
        messages: a JSON array of messages, empty without one.
        transcript: a JSON string, empty without one.
        assistant_name: what the transcript calls the assistant, beside ASSISTANT_LABELS.
    """
    spoke = _customer_spoke_in(messages) if messages else None
    if spoke is None and transcript:
        spoke = _is_customer_in(msgspec.json.decode(transcript, type=str), assistant_name)
    return spoke


def transcript_of(lines: bytes) -> str:
    """A transcript that came as a list of ``{role, message|content}``, as text; "" when nobody says anything in it."""
    labels = {**dict.fromkeys(ASSISTANT_ROLES, "AI"), **dict.fromkeys(CUSTOMER_ROLES, "User")}
    said = ((labels.get(role), text) for role, text in _said_in(lines))
    return "".join(f"{label}: {text}\n" for label, text in said if label and text)


def _customer_spoke_in(messages: bytes) -> bool | None:
    """None where no message is the customer's or the assistant's."""
    has_assistant = False
    for role, text in _said_in(messages):
        if role in CUSTOMER_ROLES and text:
            return True
        has_assistant = has_assistant or role in ASSISTANT_ROLES
    return False if has_assistant else None


def _said_in(messages: bytes) -> Iterator[tuple[str, str]]:
    """Each message's role and its text, "" where that is blank or missing; what is no message is passed over."""
    try:
        entries = _ENTRIES.decode(messages)
    except msgspec.ValidationError:  # no array
        return
    for entry in entries:
        try:
            message = _MESSAGE.decode(entry)
        except msgspec.ValidationError:  # no object, or its role is no text
            continue
        yield message.role.strip().lower(), _text_of(message.message) or _text_of(message.content)


def _text_of(said: msgspec.Raw) -> str:
    """OpenAI's format has a list of parts where VAPI's has a text."""
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
    """True when text stands under a label that is not the assistant's; text before any label is the customer's."""
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
