"""What a route table's entry tells the OpenAPI document: parameters, bodies, answers. Types become schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from msgspec import Struct
from starlette.types import ASGIApp

from service.api.auth import Access

JSON: Final = "application/json"


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter in the path, the query or a header."""

    name: str
    place: Literal["path", "query", "header"]
    type: Any
    """A Python type, with its bounds as ``msgspec.Meta``."""
    description: str
    example: Any


class Body(Struct, frozen=True, kw_only=True):
    """What a request or an answer carries."""

    types: tuple[Any, ...]
    """It is of any one of these."""
    examples: dict[str, Any]
    """By name; each is an instance of one of the types, or what it looks like in JSON."""
    media_type: str = JSON


class Header(Struct, frozen=True, kw_only=True):
    """A header that an answer carries besides those that all carry."""

    name: str
    description: str
    example: str
    is_required: bool = True


class DescribedAnswer(Struct, frozen=True, kw_only=True):
    """An answer that is no failure."""

    status: int
    description: str
    bodies: tuple[Body, ...] = ()
    """One for each media type; none where the answer has no body."""
    headers: tuple[Header, ...] = ()


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    id: str
    """Unique; generators of clients name a function after it."""
    tag: str
    summary: str
    """Also its line in the list at ``/``."""
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[DescribedAnswer, ...]
    takes_token: bool = False
    """Whether an open route tells callers with a token more."""
    has_callback: bool = False
    """Whether a request makes us send one later."""
    failures: dict[int, str]
    """What a status means for this route, for those that document.py does not add by itself, or that mean more here."""


class ServedRoute(Struct, frozen=True):
    """One entry of the route table."""

    method: str
    path: str
    app: ASGIApp
    access: Access | None
    """None: VAPI's proof, which the handler checks."""
    operation: Operation


def json_of(type_: Any, **examples: Any) -> Body:
    """A JSON body of one type."""
    return Body(types=(type_,), examples=examples)


def ok(description: str, type_: Any, *headers: Header, status: int = 200, **examples: Any) -> DescribedAnswer:
    """An answer with one JSON body."""
    return DescribedAnswer(
        status=status, description=description, bodies=(json_of(type_, **examples),), headers=headers
    )


def listed_endpoints(routes: Iterable[ServedRoute]) -> list[dict[str, str]]:
    """The list at ``/``."""
    return [{"method": route.method, "path": route.path, "description": route.operation.summary} for route in routes]
