"""OpenAPI: the pages for people, and the files that they load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta

from service.api import docs, ops
from service.api.openapi.operation import Body, DescribedAnswer, Header, Operation, Parameter

PAGES: Final = "pages"

TOO_MANY_UNTAKEN: Final = "Too many large answers wait for clients that do not read them"

_WHY: Final = {
    "Content-Security-Policy": "Nothing from elsewhere is loaded or reached",
    "X-Content-Type-Options": "Taken as what it says it is",
    "Referrer-Policy": "No page that it leads to learns of it",
    "Cross-Origin-Opener-Policy": "No page that opened it can reach into it",
    "Cross-Origin-Resource-Policy": "No page from elsewhere can load it",
}


def _page(name: str, summary: str, headers: Mapping[str, str]) -> Operation:
    body = Body(types=(str,), examples={"page": "<!doctype html>..."}, media_type="text/html; charset=utf-8")
    answer = DescribedAnswer(
        status=200, description="The page, which holds no data", bodies=(body,), headers=_described(headers)
    )
    return Operation(id=f"get{name}", tag=PAGES, summary=summary, answers=(answer,), failures={})


def _file(
    name: str, summary: str, files: Mapping[str, str], headers: Mapping[str, str], *, is_large: bool
) -> Operation:
    bodies = tuple(map(_body_of, dict.fromkeys(files.values())))
    answer = DescribedAnswer(status=200, description="The file", bodies=bodies, headers=_described(headers))
    return Operation(
        id=f"get{name}",
        tag=PAGES,
        summary=summary,
        parameters=(
            Parameter(
                name="file",
                place="path",
                type=Annotated[str, Meta(extra_json_schema={"enum": [*files]})],
                description="Its name",
                example=next(iter(files)),
            ),
        ),
        answers=(answer,),
        failures={404: "The page has no such file", **({503: TOO_MANY_UNTAKEN} if is_large else {})},
    )


def _described(headers: Mapping[str, str]) -> tuple[Header, ...]:
    return tuple(Header(name=name, description=_WHY[name], example=value) for name, value in headers.items())


def _body_of(media_type: str) -> Body:
    return Body(types=(bytes if media_type.startswith("image/") else str,), examples={}, media_type=media_type)


GET_DOCS: Final = _page("Docs", "that document as a page, on which requests can be tried with a token", docs.HEADERS)
GET_DOCS_FILE: Final = _file(
    "DocsFile", "the scripts, styles and icon of that page", docs.FILES, docs.SAFE, is_large=True
)
GET_OPS: Final = _page("OperationsPage", "the operations page, for a browser; asks for an admin token", ops.HEADERS)
GET_OPS_FILE: Final = _file(
    "OperationsFile",
    "the scripts, style and icon of that page, and the runbook",
    ops.FILES,
    ops.HEADERS,
    is_large=False,
)
