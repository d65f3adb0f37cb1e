"""Compares answers with what an OpenAPI document says of them. Fields that it does not name are complaints, too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

HEADERS_OF_HTTP: Final = {
    "date",
    "content-length",
    "content-type",
    "connection",
    "allow",
    "transfer-encoding",
    "server",
}


class DescribedAPI:
    """The answers that a document allows."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._closed = _closed({"components": document["components"]})
        self._paths = sorted(
            ((_pattern_of(path), path) for path in document["paths"]), key=lambda found: found[1].count("{")
        )

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """What the document says of a request; None where it says nothing."""
        target = "/" + path.partition("?")[0].strip("/")
        found = next((described for pattern, described in self._paths if pattern.fullmatch(target)), None)
        if found is None:
            return None
        methods = self.document["paths"][found]
        operation: dict[str, Any] | None = methods.get("get" if method == "HEAD" else method.lower())
        return operation

    def complaints(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
        """What the answer has that the document does not know, and the other way round."""
        operation = self.operation(method, path)
        if operation is None:
            return []
        return self.complaints_about(operation, status, headers, body if method != "HEAD" else None)

    def complaints_about(
        self, operation: dict[str, Any], status: int, headers: Mapping[str, str], body: bytes | None
    ) -> list[str]:
        """``body`` None: the answer to a HEAD."""
        described = operation["responses"].get(str(status))
        if described is None:
            return [f"status {status} is not described"]
        described = self._resolved(described)
        lower = {name.lower(): self._resolved(header) for name, header in described["headers"].items()}
        missing = [name for name, header in lower.items() if header["required"] and name not in headers]
        unknown = [name for name in headers if name.lower() not in lower.keys() | HEADERS_OF_HTTP]
        found = [f"header {name} is missing" for name in missing]
        found += [f"header {name} is not described" for name in unknown]
        if body is None:
            return found
        content = described.get("content", {})
        media_type = headers.get("content-type", "")
        if not content:
            return [*found, "a body is not described"] if body else found
        if media_type not in content:
            return [*found, f"media type {media_type} is not described"]
        schema = content[media_type].get("schema")
        if media_type != "application/json" or schema is None:
            return found
        return found + self.complaints_about_value(schema, json.loads(body))

    def complaints_about_value(self, schema: dict[str, Any], value: Any) -> list[str]:
        validator = Draft202012Validator({**_closed(schema), **self._closed})
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        found: dict[str, Any] = self.document["components"][kind][name]
        return found


def _pattern_of(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


def _closed(schema: Any) -> Any:
    """The same schema, in which an object has no other fields than those that are named."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
