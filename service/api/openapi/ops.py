"""OpenAPI: the operations page and its files."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from service.api.openapi.operation import Answer, Body, Header, Operation, Parameter
from service.api.openapi.watching import PAGES
from service.api.ops import FILES, HEADERS

_HTML: Final = "text/html; charset=utf-8"

_WHY: Final = {
    "Content-Security-Policy": "Nothing from elsewhere is loaded or reached",
    "X-Content-Type-Options": "Taken as what it says it is",
    "Referrer-Policy": "No page that it leads to learns of it",
    "Cross-Origin-Opener-Policy": "No page that opened it can reach into it",
    "Cross-Origin-Resource-Policy": "No page from elsewhere can load it",
}

_HEADERS: Final = tuple(Header(name=name, description=_WHY[name], example=value) for name, value in HEADERS.items())

GET_OPS: Final = Operation(
    id="getOperationsPage",
    tag=PAGES,
    summary="the operations page, for a browser; asks for an admin token",
    answers=(
        Answer(
            status=200,
            description="The page, which holds no data",
            bodies=(Body(types=(str,), examples={"page": "<!doctype html>..."}, media_type=_HTML),),
            headers=_HEADERS,
        ),
    ),
    failures={},
)

GET_OPS_FILE: Final = Operation(
    id="getOperationsFile",
    tag=PAGES,
    summary="the scripts, style and icon of that page, and the runbook",
    parameters=(
        Parameter(
            name="file",
            place="path",
            type=Annotated[str, Meta(extra_json_schema={"enum": [*FILES]})],
            description="Its name",
            example="runbook",
        ),
    ),
    answers=(
        Answer(
            status=200,
            description="The file",
            bodies=tuple(
                Body(types=(bytes if media_type.startswith("image/") else str,), examples={}, media_type=media_type)
                for media_type in dict.fromkeys(FILES.values())
            ),
            headers=_HEADERS,
        ),
    ),
    failures={404: "The page has no such file"},
)
