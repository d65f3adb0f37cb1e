"""The operations page and the runbook it links to, with headers that let a page load and reach only this service.

The page itself is open to everybody and holds no data. Its script asks for a token, keeps it in memory, and reads the
stats and the health with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.runbook import render_runbook
from service.api.state import State
from service.errors import NotFoundError

ROUTE: Final = "/ops"
FILE_ROUTE: Final = "/ops/{file}"

HERE: Final = Path(__file__).parent / "ops_page"

RUNBOOK_PLACES: Final = (HERE / "RUNBOOK.md", HERE.parents[2] / "deploy" / "RUNBOOK.md")
"""In the installed package, and in a checkout."""

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES: Final = ("ops.css", "ops.js", "ops_view.js", "ops_calls.js", "ops_problems.js", "ops_verdict.js", "ops.svg")

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class OpsPage:
    """Reads the files once, when the service is put together."""

    def __init__(self) -> None:
        page = (HERE / "ops.html").read_text().replace("{{version}}", __version__)
        self._page = page.encode()
        self._files = {name: ((HERE / name).read_bytes(), _TYPES[Path(name).suffix]) for name in _FILES}
        if runbook := next((place for place in RUNBOOK_PLACES if place.exists()), None):
            self._files["runbook"] = (render_runbook(runbook.read_text()).encode(), "text/html")

    async def get_page(self, _: State, __: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=_HEADERS)

    async def get_file(self, _: State, request: Request) -> Response:
        """One of the page's files, or the runbook. Raises NotFoundError."""
        found = self._files.get(request.path_params["file"])
        if found is None:
            raise NotFoundError("Not found; GET / lists the endpoints")
        content, media_type = found
        return Response(content, media_type=media_type, headers=_HEADERS)
