"""The type of a webhook's body for OpenAPI, made of the structs that read it in vapi/messages.py."""

from __future__ import annotations

import types
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from service.calls.call_id import CALL_ID
from service.vapi.intake import REPORT, STATUS_UPDATE
from service.vapi.messages import ServerMessage

_ANY_JSON: Final = str | int | float | bool | list[Any] | dict[str, Any] | None

_DOC: Final = """One server message of VAPI. Only `message.type` is required; status updates and reports must also name their
call (`message.call.id`). The fields here are those that are read. A field of another type than here is coerced or left
out, and the rest of the message is kept."""


def _described(struct: Any, done: dict[Any, Any]) -> Any:
    """The same struct for describing: msgspec cannot describe the default of an undecoded (``Raw``) field."""
    if struct not in done:
        hints = get_type_hints(struct)
        fields: list[Any] = []
        for field in msgspec.structs.fields(struct):
            type_ = _described_type(hints[field.name], done)
            fields.append((field.name, type_) if field.required else (field.name, type_ | UnsetType, UNSET))
        done[struct] = msgspec.defstruct(struct.__name__, fields, kw_only=True)
    return done[struct]


def _described_type(type_: Any, done: dict[Any, Any]) -> Any:
    if type_ is Raw:
        return _ANY_JSON
    if get_origin(type_) is types.UnionType:
        first, *others = (_described_type(part, done) for part in get_args(type_))
        for other in others:
            first |= other
        return first
    return _described(type_, done) if isinstance(type_, type) and issubclass(type_, Struct) else type_


_NAMES_ITS_CALL: Final = {
    "if": {"properties": {"type": {"enum": [STATUS_UPDATE, REPORT]}}},
    "then": {
        "required": ["call"],
        "properties": {
            "call": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string", "pattern": f"^{CALL_ID.pattern}$"}},
            }
        },
    },
}

_Message: Final = Annotated[_described(ServerMessage, {}), Meta(extra_json_schema=_NAMES_ITS_CALL)]

WebhookBody: Final = msgspec.defstruct("WebhookBody", [("message", _Message)], namespace={"__doc__": _DOC})
"""``{"message": {...}}`` with the fields that are read; VAPI sends many more."""
