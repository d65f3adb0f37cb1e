"""JSON Schemas, all made by msgspec: types are collected while the document is put together and filled in at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from service.api.openapi.operation import Body


class Schemas:
    """msgspec names the structs of a document in one go, so that no two have the same name."""

    def __init__(self) -> None:
        self._types: list[Any] = []

    def of(self, type_: Any) -> Any:
        """Stands for the schema of the type until ``filled_in``."""
        self._types.append(type_)
        return _Place(len(self._types) - 1)

    def content_of(self, bodies: Iterable[Body]) -> dict[str, Any]:
        """A media type object for each body, by media type."""
        return {body.media_type: self._media_type(body) for body in bodies}

    def _media_type(self, body: Body) -> dict[str, Any]:
        if body.types == (bytes,):
            return {}  # OpenAPI 3.1 describes bytes by their media type alone
        schemas = [self.of(type_) for type_ in body.types]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        examples = {name: {"value": value} for name, value in body.examples.items()}
        return {"schema": schema, "examples": examples} if examples else {"schema": schema}

    def filled_in(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with its schemas in their places, and the structs among its components."""
        schemas, components = msgspec.json.schema_components(self._types, ref_template="#/components/schemas/{name}")
        document["components"]["schemas"] = components
        filled: dict[str, Any] = _filled(document, schemas)
        return filled


class _Place:
    def __init__(self, number: int) -> None:
        self.number = number


def _filled(value: Any, schemas: tuple[dict[str, Any], ...]) -> Any:
    if isinstance(value, _Place):
        return _filled(schemas[value.number], schemas)
    if isinstance(value, dict):
        return {
            name: _pattern(part) if name == "pattern" and isinstance(part, str) else _filled(part, schemas)
            for name, part in value.items()
        }
    return [_filled(part, schemas) for part in value] if isinstance(value, list | tuple) else value


def _pattern(pattern: str) -> str:
    r"""JSON Schema's patterns are ECMA 262's, where Python's ``\Z`` is ``$``."""
    return pattern.replace(r"\Z", "$")
