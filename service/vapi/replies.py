"""Replies that mean "not handled here", for the message types that expect an answer.

A live call waits for these: 7.5 s for an assistant request, 20 s for a tool's server. What each type accepts:
https://docs.vapi.ai/server-url/events, https://docs.vapi.ai/knowledge-base/custom-knowledge-base
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from service.vapi.messages import ServerMessage

NOT_HANDLED: Final = "This server takes call results only."

ENDPOINTING_TIMEOUT_S: Final = 0.4
"""VAPI's own default pause before the assistant speaks."""


class Reply(msgspec.Struct, frozen=True):
    """The answer to a message, while the live call waits for it."""

    body: bytes
    content_type: bytes = b"application/json"


class _ToolCall(msgspec.Struct):
    """Its arguments are not decoded: they may hold a number too large for any type."""

    id: str


class _Tool(msgspec.Struct):
    toolCall: _ToolCall  # noqa: N815


_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
_TOOL: Final = msgspec.json.Decoder(_Tool)
_TOOL_CALL: Final = msgspec.json.Decoder(_ToolCall)


def find_reply(message: ServerMessage) -> Reply | None:
    """The reply for a message type that expects one; None for other types."""
    if message.type == "voice-request":
        return Reply(b"", b"application/octet-stream")  # raw PCM is expected: JSON would be played as noise
    answer = _ANSWERS.get(message.type)
    return None if answer is None else Reply(msgspec.json.encode(answer(message)))


def _error(_: ServerMessage) -> dict[str, Any]:
    return {"error": NOT_HANDLED}


def _tool_results(message: ServerMessage) -> dict[str, Any]:
    """One result per tool call in any of the three lists. A result must be one line, or VAPI drops it."""
    lists = (message.toolCallList, message.toolCalls, message.toolWithToolCallList)
    ids = dict.fromkeys(call_id for fragment in lists for call_id in _tool_call_ids(bytes(fragment)))
    return {"results": [{"toolCallId": call_id, "error": NOT_HANDLED} for call_id in ids]}


def _tool_call_ids(fragment: bytes) -> Iterator[str]:
    """The ids in a list of tool calls, or in a list of tools that contain their ``toolCall``."""
    try:
        entries = _ENTRIES.decode(fragment or b"null")
    except msgspec.ValidationError:  # not an array
        return
    yield from filter(None, map(_find_id, entries or ()))


def _find_id(entry: msgspec.Raw) -> str | None:
    with suppress(msgspec.ValidationError):
        return _TOOL.decode(entry).toolCall.id
    with suppress(msgspec.ValidationError):
        return _TOOL_CALL.decode(entry).id
    return None


_ANSWERS: Final[dict[str, Callable[[ServerMessage], dict[str, Any]]]] = {
    "assistant-request": _error,
    "tool-calls": _tool_results,
    "transfer-destination-request": _error,
    "handoff-destination-request": _error,
    "knowledge-base-request": lambda _: {"documents": []},
    "call.endpointing.request": lambda _: {"timeoutSeconds": ENDPOINTING_TIMEOUT_S},
    "campaign.predial": lambda _: {"eligible": False},
    "function-call": lambda _: {"result": NOT_HANDLED},
}
