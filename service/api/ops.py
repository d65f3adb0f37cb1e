"""The operations page and the runbook it links to, with headers that let a page load and reach only this service.

The page itself is open to everybody and holds no data. Its script asks for a token, keeps it in memory, and reads the
stream of events, the stats and the health with it.
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

RUNBOOK: Final = "runbook"

_SCRIPT: Final = "text/javascript; charset=utf-8"

FILES: Final = {
    "ops.css": "text/css; charset=utf-8",
    "ops.js": _SCRIPT,
    "ops_view.js": _SCRIPT,
    "ops_calls.js": _SCRIPT,
    "ops_events.js": _SCRIPT,
    "ops_problems.js": _SCRIPT,
    "ops_verdict.js": _SCRIPT,
    "ops.svg": "image/svg+xml",
    RUNBOOK: "text/html; charset=utf-8",
}
"""The page's files and their media types."""

HEADERS: Final = {
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
        self._files = {name: (HERE / name).read_bytes() for name in FILES if name != RUNBOOK}
        if runbook := next((place for place in RUNBOOK_PLACES if place.exists()), None):
            self._files[RUNBOOK] = render_runbook(runbook.read_text()).encode()

    async def get_page(self, _: State, __: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=HEADERS)

    async def get_file(self, _: State, request: Request) -> Response:
        """One of the page's files, or the runbook. Raises NotFoundError."""
        name = request.path_params["file"]
        content = self._files.get(name)
        if content is None:
            raise NotFoundError("The page has no such file")
        return Response(content, media_type=FILES[name], headers=HEADERS)
