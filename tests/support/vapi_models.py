"""VAPI's own SDK as the judge of what we send it, stricter than it is to itself: no unknown key, no unknown word.

The SDK's models take anything (``extra="allow"``, enumerations that end in ``Any``), so this walks their annotations.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, ForwardRef, Literal, Union, get_args, get_origin

import pydantic

MISREAD_BY_THE_SDK: Final = frozenset({"$.server.backoffPlan.type", "$.server.backoffPlan.excludedStatusCodes[]"})
"""The SDK's generator takes these for objects, since VAPI's document gives them no type; both are plain values."""


def complaints_about_assistant(config: Any) -> list[str]:
    """What VAPI would not know, or not take, in the body of a ``POST /assistant``; one line with its path each."""
    model = importlib.import_module("vapi.types.create_assistant_dto").CreateAssistantDto
    return list(_complaints(config, model, "$"))


def complaints_about_schema(schema: Any) -> list[str]:
    """The same for a JSON Schema in an analysis plan."""
    return list(_complaints(schema, importlib.import_module("vapi.types.json_schema").JsonSchema, "$"))


def _complaints(value: Any, wanted: Any, path: str) -> Iterator[str]:
    origin = get_origin(wanted)
    if path in MISREAD_BY_THE_SDK or wanted is Any:
        return
    if origin is Annotated:
        yield from _complaints(value, get_args(wanted)[0], path)
    elif origin in (Union, types.UnionType):
        yield from _complaints_of_all(value, get_args(wanted), path)
    elif origin is Literal:
        if value not in get_args(wanted):
            yield f"{path}: not one of VAPI's words"
    elif origin is list:
        yield from _complaints_about_list(value, get_args(wanted)[0], path)
    elif origin is dict:
        yield from [] if isinstance(value, dict) else [f"{path}: no object"]
        for name, each in value.items() if isinstance(value, dict) else ():
            yield from _complaints(each, get_args(wanted)[1], f"{path}.{name}")
    elif isinstance(wanted, type) and issubclass(wanted, pydantic.BaseModel):
        yield from _complaints_about_object(value, wanted, path)
    elif not _is_plain(value, wanted):
        yield f"{path}: no {wanted}"


def _is_plain(value: Any, wanted: Any) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(wanted, type) and type(value) is wanted


def _complaints_of_all(value: Any, options: tuple[Any, ...], path: str) -> Iterator[str]:
    """Nothing if one of the options is content; else what the most nearly content one says."""
    if any(get_origin(option) is Literal for option in options):
        options = tuple(option for option in options if option is not Any)
    verdicts = [list(_complaints(value, option, path)) for option in options]
    yield from min(verdicts, key=lambda verdict: (_is_of_another_kind(verdict, path), len(verdict)))


def _is_of_another_kind(verdict: list[str], path: str) -> bool:
    """True when it is the wrong variant of a union: its type, or the field that tells variants apart."""
    return any(line.startswith((f"{path}: ", f"{path}.type: ", f"{path}.provider: ")) for line in verdict)


def _complaints_about_list(value: Any, wanted: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: no list"
        return
    for each in value:
        yield from _complaints(each, wanted, f"{path}[]")


def _complaints_about_object(value: Any, model: type[pydantic.BaseModel], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: no object"
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name in value.keys() - fields.keys():
        yield f"{path}.{name}: unknown to VAPI"
    for name, field in fields.items():
        if name in value:
            yield from _complaints(value[name], _resolved(field.annotation, model), f"{path}.{name}")
        elif field.is_required():
            yield f"{path}.{name}: missing"


def _resolved(annotation: Any, model: type[pydantic.BaseModel]) -> Any:
    """The annotation with the names of models in it looked up: pydantic leaves some within lists and unions."""
    if isinstance(annotation, ForwardRef):
        return getattr(importlib.import_module(model.__module__), annotation.__forward_arg__)
    if get_origin(annotation) in (Union, list):
        parts = tuple(_resolved(part, model) for part in get_args(annotation))
        return list[parts[0]] if get_origin(annotation) is list else Union[parts]  # type: ignore[valid-type] # noqa: UP007
    return annotation
