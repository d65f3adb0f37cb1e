"""OpenAPI: a route's answers. Those that follow from the layers around all handlers are added here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from service.api.auth import Access
from service.api.openapi.bodies import Failure, FailureDetail
from service.api.openapi.operation import Body, DescribedAnswer, Header, Operation, json_of
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

_SENTENCES: Final = {
    400: "Invalid query",
    401: "Invalid webhook signature",
    402: "VAPI refused the call: the account has no credits left",
    403: "This needs an admin token",
    404: "Call result not found",
    409: "The first request with this Idempotency-Key is still running, or its outcome is unknown",
    413: "The body is larger than 65536 bytes",
    415: "Content-Encoding is not supported; send the body as it is",
    422: "This Idempotency-Key was used with another request; it is kept for 24 hours",
    429: "Too many requests without valid credentials from this address",
    431: "The request has more than 256 headers",
    500: "Internal server error",
    501: "VAPI_API_KEY must be set to place calls this way",
    502: "VAPI did not answer in time",
    503: "Redis is not available",
}
"""What a failure of that status may say."""

_FAILURES: Final = {
    "Malformed": (400, _MALFORMED),
    "UnknownCaller": (401, _UNKNOWN_CALLER),
    "Stranger": (403, _STRANGER),
    "NoAdmin": (403, _NO_ADMIN),
    "TooMany": (429, _TOO_MANY),
    "LargeHead": (431, _LARGE_HEAD),
    "OurFault": (500, _OUR_FAULT),
    "Busy": (503, _BUSY),
}
"""Failures that many routes share, by the name of their component."""

Make = Callable[[Schemas], Any]


def _shared_failure(status: int, description: str) -> Make:
    return lambda schemas: _answer(schemas, _failure(status, description))


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
    for status, description in operation.failures.items():
        found[status] = _answer(schemas, _failure(status, description))
    for answer in operation.answers:
        found[answer.status] = _answer(schemas, _with_failure(answer) if answer.status in found else answer)
    return {str(status): found[status] for status in sorted(found)}


def _shared_by(access: Access | None, *, is_guarded: bool) -> list[str]:
    names = ["Malformed", "LargeHead", "OurFault", "Busy"]
    if access in (Access.READ, Access.ADMIN, Access.DIAL):
        names += ["UnknownCaller", "TooMany"]
    if access in (Access.ADMIN, Access.DIAL):
        names.append("NoAdmin")
    elif is_guarded:
        names.append("Stranger")
    return names


def _failure(status: int, description: str) -> DescribedAnswer:
    details = [FailureDetail("limit", "must be a whole number, 1 to 100")] if status == 400 else UNSET
    body = json_of(Failure, failure=Failure(False, _SENTENCES[status], details))
    return DescribedAnswer(status=status, description=description, bodies=(body,), headers=_HEADERS.get(status, ()))


def _with_failure(answer: DescribedAnswer) -> DescribedAnswer:
    """An answer whose status means a failure as well."""
    body = answer.bodies[0]
    both = Body(types=(*body.types, Failure), examples=body.examples, media_type=body.media_type)
    headers = (*answer.headers, *_HEADERS.get(answer.status, ()))
    return DescribedAnswer(status=answer.status, description=answer.description, bodies=(both,), headers=headers)


def _answer(schemas: Schemas, answer: DescribedAnswer) -> dict[str, Any]:
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
