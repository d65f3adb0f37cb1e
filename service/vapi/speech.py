"""Reads from a report's messages and transcript whether the customer spoke, and what was said. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from service.calls.facts import BLANK
from service.vapi.coercion import first_not_blank, is_blank
from service.vapi.messages import ArtifactPlan

CUSTOMER_ROLES: Final = frozenset(("user", "customer"))
ASSISTANT_ROLES: Final = frozenset(("bot", "assistant"))

ASSISTANT_LABELS: Final = frozenset(("ai", "assistant", "bot"))
"""Labels of the assistant's lines in a transcript. ``transcriptPlan.assistantName`` may set another one.

https://docs.vapi.ai/api-reference/assistants/create#request.body.artifactPlan.transcriptPlan
"""

_LABEL: Final = re.compile(r"[^\W_][\w .'’()#&\u0300-\u1fff\u200c\u200d-]{0,39}?\s*(?::(?=\s|$)|：)(.*)")
"""A speaker's name and a colon. The colon in a time (10:30) or a URL (https://) has no white space after it.

Most vowel signs of Indic and Thai script, and the joiners, are no ``\\w``.
"""


class _Message(msgspec.Struct, gc=False):
    """The fields that are read. The rest is never decoded: it may hold a number too large for any type."""

    role: str
    message: msgspec.Raw = msgspec.Raw(b'""')
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Part(msgspec.Struct, gc=False):
    text: str


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_SAID: Final = msgspec.json.Decoder(str | list[msgspec.Raw])
_PART: Final = msgspec.json.Decoder(_Part)


def customer_spoke(messages: bytes, transcript: bytes, plans: Sequence[ArtifactPlan]) -> bool | None:
    """Whether the customer said anything; None when neither messages nor transcript show it.

    Args:
        messages: a JSON array of messages; empty bytes without one.
        transcript: a JSON string; empty bytes without one.
        plans: may name the transcript's speakers, the first plan that does so first.
    """
    spoke = _customer_spoke_in(messages) if messages else None
    if spoke is None and transcript:
        spoke = _customer_spoke_in_transcript(msgspec.json.decode(transcript, type=str), plans)
    return spoke


def transcript_of(entries: bytes) -> str | None:
    """Converts a transcript from a list of ``{role, message|content}`` to text, one line for each entry.

    "" when nobody says anything in it; None when no entry is from the customer or the assistant.
    """
    labels = {**dict.fromkeys(ASSISTANT_ROLES, "AI"), **dict.fromkeys(CUSTOMER_ROLES, "User")}
    said = [
        (labels[role], _text_of(message))
        for message in _messages_in(entries)
        if (role := message.role.strip().lower()) in labels
    ]
    return "".join(f"{label}: {_on_one_line(text)}\n" for label, text in said if text) if said else None


def _customer_spoke_in(messages: bytes) -> bool | None:
    """None when no message is from the customer or the assistant."""
    has_assistant = False
    for message in _messages_in(messages):
        role = message.role.strip().lower()
        if role in CUSTOMER_ROLES and _text_of(message):
            return True
        has_assistant = has_assistant or role in ASSISTANT_ROLES
    return False if has_assistant else None


def _messages_in(entries: bytes) -> list[_Message]:
    """The messages in an array. Entries that are not messages are skipped."""
    try:
        return _MESSAGES.decode(entries)
    except msgspec.ValidationError:
        return _messages_among(entries)


def _messages_among(entries: bytes) -> list[_Message]:
    """The messages in an array where some entries are not objects, or have a role that is not text."""
    found = []
    with suppress(msgspec.ValidationError):  # not an array
        for entry in _ENTRIES.decode(entries):
            with suppress(msgspec.ValidationError):
                found.append(_MESSAGE.decode(entry))
    return found


def _text_of(message: _Message) -> str:
    """What is said in a message; "" when it is blank or missing."""
    return _text_in(message.message) or _text_in(message.content)


def _text_in(said: msgspec.Raw) -> str:
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


def _on_one_line(text: str) -> str:
    return " ".join(stripped for line in text.splitlines() if (stripped := line.strip()))


def _customer_spoke_in_transcript(transcript: str, plans: Sequence[ArtifactPlan]) -> bool:
    """True when a label other than the assistant's has text. Text before any label counts as the customer's."""
    given = [plan.transcriptPlan for plan in plans if plan.transcriptPlan is not None]
    assistants = [*ASSISTANT_LABELS, *filter(None, [first_not_blank(*[plan.assistantName for plan in given])])]
    customers = [*CUSTOMER_ROLES, *filter(None, [first_not_blank(*[plan.userName for plan in given])])]
    is_assistant = False
    for line in transcript.splitlines():
        said = BLANK.sub("", line, count=1)
        if (text := _text_after(assistants, said)) is not None:
            is_assistant = True
        elif (text := _text_after(customers, said)) is not None:
            is_assistant = False
        elif labelled := _LABEL.fullmatch(said):
            is_assistant, text = False, labelled[1]
        if not is_assistant and not is_blank(said if text is None else text):
            return True
    return False


def _text_after(names: list[str], said: str) -> str | None:
    """The text after one of these names and a colon; None when the line begins with none of them."""
    for name in map(str.strip, names):
        rest = said[len(name) :].lstrip()
        if rest[:1] in (":", "：") and said[: len(name)].casefold() == name.casefold():
            return rest[1:]
    return None
