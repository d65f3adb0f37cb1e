"""``/docs``: Swagger UI for the OpenAPI document, with its files from a package of this machine and nothing from elsewhere.

The package is flask-swagger-ui because its releases follow Swagger UI's; swagger-ui-bundle stopped before OpenAPI 3.1.
Only its files are used. It is never imported, and neither is Flask.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.responses import LargeResponse
from service.api.state import State
from service.errors import NotFoundError

ROUTE: Final = "/docs"
FILE_ROUTE: Final = ROUTE + "/{file}"

PACKAGE: Final = "flask_swagger_ui"

FILES: Final = {
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
"""The page's files and their media types. The first is ours, the others are the package's."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""``data:`` because Swagger UI's arrows are images inside its style sheet."""

SAFE: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
HEADERS: Final = {"Content-Security-Policy": POLICY, **SAFE}
"""Of the page; its files have ``SAFE`` alone."""

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vapi-cache: HTTP API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript. The document it shows is <a href="/openapi.json">/openapi.json</a>.</noscript>
<main id="page"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

START: Final = """\
"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  tagsSorter: null,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
"""
"""A token stays in the page's memory. ``validatorUrl`` null: the document is not sent to Swagger's validator."""


async def get_docs(_: State, __: Request) -> Response:
    return Response(PAGE, media_type="text/html", headers=HEADERS)


async def get_docs_file(state: State, request: Request) -> Response:
    name = request.path_params["file"]
    media_type = FILES.get(name)
    if media_type is None:
        raise NotFoundError("The page has no such file")
    content = _content_of(name)
    return LargeResponse(state.large_bodies, content, key=(ROUTE, name), media_type=media_type, headers=SAFE)


@cache
def _content_of(name: str) -> bytes:
    """Read at the first request; 1.9 MB in all."""
    return START.encode() if name == "start.js" else (_folder() / name).read_bytes()


def _folder() -> Path:
    """Where the package's files are, without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None, "flask-swagger-ui is a dependency"
    assert spec.origin is not None
    return Path(spec.origin).parent / "dist"
