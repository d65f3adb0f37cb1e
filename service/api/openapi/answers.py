"""OpenAPI: a route's answers. Those that follow from the layers around all handlers are added here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from service.api.auth import Access
from service.api.openapi.bodies import Failure, FailureDetail
from service.api.openapi.operation import Answer, Body, Header, Operation, json_of
from service.api.openapi.schemas import Schemas

_EVERY_HEADER: Final = ("X-Request-ID", "Cache-Control")

_MALFORMED: Final = "The request is malformed"
_UNKNOWN_CALLER: Final = "A valid token is needed"
_STRANGER: Final = "No credentials are set, and the request is not of a program on this machine"
_NO_ADMIN: Final = f"An admin token is needed; or: {_STRANGER[0].lower()}{_STRANGER[1:]}"
_TOO_MANY: Final = "Too many requests without a valid token from this address"
_LARGE_HEAD: Final = "The headers are over 64 KiB, or more than 256"
_OUR_FAULT: Final = "A fault in this service"
_BUSY: Final = "Redis did not answer in time, or too many requests at once"

_RETRY_AFTER: Final = Header(name="Retry-After", description="Seconds after which to try again", example="1")
_RETRY_AFTER_MAYBE: Final = Header(
    name="Retry-After", description=_RETRY_AFTER.description, example="60", is_required=False
)
_CHALLENGE: Final = Header(name="WWW-Authenticate", description="For tokens", example="Bearer", is_required=False)
_HEADERS: Final = {401: (_CHALLENGE,), 429: (_RETRY_AFTER_MAYBE,), 503: (_RETRY_AFTER,)}

_FAILURES: Final = {
    "Malformed": (400, _MALFORMED, Failure(False, "Invalid query", [FailureDetail("limit", "must be a whole number")])),
    "NoToken": (401, _UNKNOWN_CALLER, Failure(False, "A valid token is needed: Authorization: Bearer <token>")),
    "Stranger": (403, _STRANGER, Failure(False, "No credentials are configured, so only direct requests are served")),
    "NoAdmin": (403, _NO_ADMIN, Failure(False, "This needs an admin token")),
    "TooMany": (429, _TOO_MANY, Failure(False, "Too many requests without valid credentials from this address")),
    "LargeHead": (431, _LARGE_HEAD, Failure(False, "The request has more than 256 headers")),
    "OurFault": (500, _OUR_FAULT, Failure(False, "Internal server error")),
    "Busy": (503, _BUSY, Failure(False, "Redis is not available")),
}
"""Failures that many routes share, by the name of their component."""

Make = Callable[[Schemas], Any]


def _shared_failure(status: int, description: str, example: Failure) -> Make:
    return lambda schemas: _answer(schemas, _failure(status, description, json_of(Failure, failure=example)))


def _shared_header(description: str, type_: type, example: str) -> Make:
    return lambda schemas: {
        "description": description,
        "required": True,
        "schema": schemas.of(type_),
        "example": example,
    }


SHARED: Final[dict[str, dict[str, Make]]] = {
    "responses": {name: _shared_failure(*failure) for name, failure in _FAILURES.items()},
    "headers": {
        "X-Request-ID": _shared_header("The request's, or a new one", str, "9f1c2ab34de56708"),
        "Cache-Control": _shared_header("Always `no-store`", str, "no-store"),
    },
    "parameters": {
        "RequestId": lambda schemas: {
            "name": "X-Request-ID",
            "in": "header",
            "description": "Comes back with the answer and stands in the log, if it matches `[A-Za-z0-9._-]{1,64}`",
            "schema": schemas.of(str),
        }
    },
}
"""The document's components, but for schemas and security schemes."""


def answers_of(
    schemas: Schemas, operation: Operation, access: Access | None, *, is_guarded: bool
) -> dict[str, dict[str, Any]]:
    """By status. ``is_guarded``: while no credentials are set, the route is closed to other machines."""
    found: dict[int, dict[str, Any]] = {
        status: {"$ref": f"#/components/responses/{name}"}
        for name in _shared_by(access, is_guarded=is_guarded)
        for status in (_FAILURES[name][0],)
    }
    plain = json_of(Failure)
    for status, description in operation.failures.items():
        found[status] = _answer(schemas, _failure(status, description, plain))
    for answer in operation.answers:
        found[answer.status] = _answer(schemas, _with_failure(answer) if answer.status in found else answer)
    return {str(status): found[status] for status in sorted(found)}


def _shared_by(access: Access | None, *, is_guarded: bool) -> list[str]:
    names = ["Malformed", "LargeHead", "OurFault", "Busy"]
    if access in (Access.READ, Access.ADMIN, Access.DIAL):
        names += ["NoToken", "TooMany"]
    if access in (Access.ADMIN, Access.DIAL):
        names.append("NoAdmin")
    elif is_guarded:
        names.append("Stranger")
    return names


def _failure(status: int, description: str, body: Body) -> Answer:
    return Answer(status=status, description=description, bodies=(body,), headers=_HEADERS.get(status, ()))


def _with_failure(answer: Answer) -> Answer:
    """An answer whose status means a failure as well."""
    body = answer.bodies[0]
    both = Body(types=(*body.types, Failure), examples=body.examples, media_type=body.media_type)
    headers = (*answer.headers, *_HEADERS.get(answer.status, ()))
    return Answer(status=answer.status, description=answer.description, bodies=(both,), headers=headers)


def _answer(schemas: Schemas, answer: Answer) -> dict[str, Any]:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _EVERY_HEADER}
    headers |= {header.name: _header(schemas, header) for header in answer.headers}
    rendered = {"description": answer.description, "headers": headers}
    if answer.bodies:
        rendered["content"] = schemas.content_of(answer.bodies)
    return rendered


def _header(schemas: Schemas, header: Header) -> dict[str, Any]:
    return {
        "description": header.description,
        "required": header.is_required,
        "schema": schemas.of(str),
        "example": header.example,
    }
