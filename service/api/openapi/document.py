"""The OpenAPI 3.1 document: the route table's entries with msgspec's schemas. Built at the first request for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.auth import Access
from service.api.openapi.answers import SHARED, answers_of
from service.api.openapi.callback import finished_call
from service.api.openapi.operation import Operation, Parameter, ServedRoute
from service.api.openapi.schemas import Schemas
from service.api.openapi.security import SCHEMES, security_of
from service.api.openapi.webhook import webhook_operations
from service.api.responses import LargeResponse
from service.api.state import State

ROUTE: Final = "/openapi.json"

_DESCRIPTION: Final = """\
Takes the webhooks of VAPI's phone calls on any replica, merges them into one record per call, and gives that record to \
whoever waits for it.

All bodies are JSON. Success is `{"success": true, ...}`, failure \
`{"success": false, "error": "<sentence>", "details": [{"path", "message"}]}`. `HEAD` is taken wherever `GET` is. A slash \
too many at the end of a path changes nothing.

Give a token of `API_READ_TOKENS` or `API_ADMIN_TOKENS` as `Authorization: Bearer <token>`. While no credentials are set, \
programs on the same machine need none, except to place calls."""

_TAGS: Final = {
    "webhooks": "What VAPI sends",
    "calls": "Records, and waiting for them",
    "placing": "Placing calls",
    "watching": "For operators",
    "pages": "For people",
}


class OpenAPIDocument:
    """The endpoint. The document is the same for every caller and does not depend on who asks."""

    def __init__(self, routes: Sequence[ServedRoute]) -> None:
        self._routes = routes
        self._making = asyncio.Lock()
        self._text = b""

    async def get(self, state: State, _: Request) -> Response:
        async with self._making:
            if not self._text:  # in a thread: anybody may ask, and it takes up to 0.1 s
                document = await asyncio.to_thread(make_document, self._routes)
                self._text = msgspec.json.encode(document)
        return LargeResponse(state.large_bodies, self._text, key=ROUTE)


def make_document(routes: Iterable[ServedRoute]) -> dict[str, Any]:
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        rendered = _operation(schemas, route.operation, route.access, is_guarded=not route.path.startswith("/health"))
        paths.setdefault(route.path, {})[route.method.lower()] = rendered
    webhooks = {
        type_: {"post": _operation(schemas, operation, None, is_guarded=True)}
        for type_, operation in webhook_operations().items()
    }
    shared = {kind: {name: make(schemas) for name, make in parts.items()} for kind, parts in SHARED.items()}
    return schemas.filled_in(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "vapi-cache",
                "version": __version__,
                "summary": "VAPI's call results for whoever waits for them",
                "description": _DESCRIPTION,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/", "description": "This replica"}],
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
            "paths": paths,
            "webhooks": webhooks,
            "components": {**shared, "securitySchemes": SCHEMES},
        }
    )


def _operation(schemas: Schemas, operation: Operation, access: Access | None, *, is_guarded: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        rendered["description"] = operation.description
    parameters = [_parameter(schemas, parameter) for parameter in operation.parameters]
    rendered["parameters"] = [*parameters, {"$ref": "#/components/parameters/RequestId"}]
    if operation.body is not None:
        rendered["requestBody"] = {"required": True, "content": schemas.content_of((operation.body,))}
    rendered["responses"] = answers_of(schemas, operation, access, is_guarded=is_guarded)
    rendered["security"] = security_of(operation, access)
    if operation.has_callback:
        rendered["callbacks"] = {"finishedCall": finished_call(schemas)}
    return rendered


def _parameter(schemas: Schemas, parameter: Parameter) -> dict[str, Any]:
    rendered = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.description,
        "schema": schemas.of(Annotated[parameter.type, Meta(examples=[parameter.example])]),
    }
    # Swagger UI fills this one in. An optional parameter that nobody asked for would change the answer.
    return {**rendered, "example": parameter.example} if parameter.place == "path" else rendered
