"""A Kestra that other programs can talk to: the few routes we use, of 1.x or 2.x, over HTTP, with executions that live.

Written from Kestra's own controllers (ExecutionController, OutputController, MiscController) and from what its official
clients send, not from our client. It serves from threads of its own, so a test may block while somebody talks to it.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, Self
from urllib.parse import unquote

from tests.support.kestra_execution import FakeExecution
from tests.support.kestra_misbehaviour import Misbehaviour
from tests.support.kestra_server import Answer, KestraServer, Request, message
from tests.support.multipart import Part

Style = Literal["v1", "v2"]
Play = Callable[[FakeExecution], Coroutine[Any, Any, None]]

VERSIONS: Final[dict[Style, str]] = {"v1": "1.3.44", "v2": "2.0.7"}
FLOWS: Final[dict[str, str | None]] = {
    "ai_concierge/call_provider": "request",
    "ai_concierge/call_providers": "requests",
    "ai_concierge/wait_loop": "call_id",
    "ai_concierge/wait_pause_resume": "call_id",
    "ai_concierge/wait_long_poll": "call_id",
    "ai_concierge/wait_events": "call_id",
    "ai_concierge/without_inputs": None,
}
"""The flows it knows at first, and the input that each must have, if any."""

NOT_FOUND: Final = Answer(404, message("Not Found"))


class FakeKestra(Misbehaviour):
    """``async with FakeKestra() as kestra:``; then ``.url``, ``.executions`` by id, ``.requests``, and misbehaviour.

    Args:
        style: the version it is; may be changed while it runs, as by an upgrade.
        username, password, token: what a request must prove; nothing is asked for without them.
        tenant: as it is in paths, quoted.
        tls: serves https with its certificate.
        play: what happens when an execution is created, in the loop of the ``async with``: the flow, played by a test.
            Whatever it raises is raised at the end of the ``async with``.
    """

    def __init__(
        self,
        style: Style = "v1",
        *,
        username: str | None = None,
        password: str = "",
        token: str | None = None,
        tenant: str = "main",
        tls: ssl.SSLContext | None = None,
        play: Play | None = None,
    ) -> None:
        super().__init__()
        self.style = style
        self.tenant = tenant
        self.play = play
        self.version: str | None = None
        """What it says its version is, where that is not the usual one of its style."""
        self.executions: dict[str, FakeExecution] = {}
        self.flows: dict[str, dict[str, Any]] = {}
        """By ``namespace/id``, as its API shows them."""
        for name in FLOWS:
            self.put_flow(*name.split("/"))
        self._proof = _proof(username, password, token)
        self._server = KestraServer(self._serve, tls)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._played: list[asyncio.Future[None]] = []

    @property
    def url(self) -> str:
        return self._server.url

    def put_flow(
        self, namespace: str, flow: str, *, labels: dict[str, str] | None = None, disabled: bool = False
    ) -> None:
        """As somebody does in its editor."""
        shown = [{"key": key, "value": value} for key, value in (labels or {}).items()]
        self.flows[f"{namespace}/{flow}"] = {
            "id": flow,
            "namespace": namespace,
            "revision": 1,
            "disabled": disabled,
            "draft": False,
            "deleted": False,
            **({"labels": shown} if shown else {}),
            "tasks": [{"id": "a", "type": "io.kestra.plugin.core.log.Log", "message": "played by a test"}],
        }

    def start(self) -> Self:
        self._server.start()
        return self

    def stop(self) -> None:
        self._stopped.set()
        self._server.stop()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        for flow in self._played:
            flow.cancel()
        for outcome in await asyncio.gather(*self._played, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _begin(self, execution: FakeExecution) -> None:
        if self.play is not None:
            self._played.append(asyncio.ensure_future(self.play(execution)))

    def _answer(self, request: Request) -> Answer:
        if self._proof is not None and request.authorization != self._proof:
            return Answer(401, message("Unauthorized"))
        if request.parts is None:
            return Answer(415, message("Content Type not allowed"))
        if (request.method, request.path) == ("GET", "/api/v1/configs"):
            return Answer(200, {"version": self.version or VERSIONS[self.style], "isBasicAuthInitialized": True})
        prefix = f"/api/v1/{self.tenant}/"
        return self._route(request, request.path.removeprefix(prefix)) if request.path.startswith(prefix) else NOT_FOUND

    def _route(self, request: Request, route: str) -> Answer:
        resume = "resume" if self.style == "v1" else "actions/resume"
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", r"flows/([^/]+)/([^/]+)", self._show_flow),
            ("GET", r"executions/([^/]+)", self._show),
            ("POST", rf"executions/([^/]+)/{resume}", self._resume),
            ("POST", r"executions/([^/]+)/([^/]+)", self._create),
        ]
        if self.style == "v2":
            routes.append(("GET", r"outputs/executions/([^/]+)", self._show_outputs))
        for method, pattern, answer in routes:
            if method == request.method and (found := re.fullmatch(pattern, route)):
                return answer(request, *map(unquote, found.groups()))
        return NOT_FOUND

    def _create(self, request: Request, namespace: str, flow: str) -> Answer:
        found = self.flows.get(f"{namespace}/{flow}")
        if found is None:
            return Answer(404, message("Not Found: Requested Flow is not found."))
        if found["disabled"]:
            return Answer(409, message("Conflict: Flow is disabled"))
        texts = [value for name, value in request.query if name == "labels"]
        inputs, required = _fields(request.parts), FLOWS.get(f"{namespace}/{flow}")
        if (required is not None and required not in inputs) or not all(map(is_label, texts)):
            return Answer(422, message("Unprocessable Entity: invalid inputs or labels"))
        labels = {key: value.strip() for key, _, value in (text.partition(":") for text in texts)}
        execution = FakeExecution(secrets.token_hex(11), namespace, flow, inputs, labels)
        self.executions[execution.id] = execution
        content = execution.as_json(with_outputs=self.style == "v1")
        if self.play is not None:
            assert self._loop is not None, "a flow is played inside `async with` only"
            self._loop.call_soon_threadsafe(self._begin, execution)
        return Answer(200, {**content, "url": f"{self.url}/ui/executions/{execution.id}"})

    def _show_flow(self, _: Request, namespace: str, flow: str) -> Answer:
        found = self.flows.get(f"{namespace}/{flow}")
        return NOT_FOUND if found is None else Answer(200, found)

    def _show(self, _: Request, execution_id: str) -> Answer:
        execution = self.executions.get(execution_id)
        return Answer(200, execution.as_json(with_outputs=self.style == "v1")) if execution else NOT_FOUND

    def _show_outputs(self, _: Request, execution_id: str) -> Answer:
        execution = self.executions.get(execution_id)
        return Answer(200, execution.outputs or {}) if execution else NOT_FOUND

    def _resume(self, request: Request, execution_id: str) -> Answer:
        with self._lock:
            execution = self.executions.get(execution_id)
            if execution is None:
                return NOT_FOUND
            if execution.state != "PAUSED":
                return Answer(409, message(f"Execution '{execution_id}' is not paused, can't resume it"))
            execution.resume(_fields(request.parts))
        return Answer(204) if self.style == "v1" else Answer(200, execution.as_json(with_outputs=False))


def is_label(text: str) -> bool:
    """As RequestUtils.toMap takes it: a key without colons and blanks, and a value that is more than those."""
    return re.match(r"[^: ]+[: ]+[^: ]", text) is not None


def _fields(parts: tuple[Part, ...] | None) -> dict[str, str]:
    """The inputs that are no uploads."""
    return {part.name: part.value for part in parts or () if part.filename is None}


def _proof(username: str | None, password: str, token: str | None) -> str | None:
    if token is not None:
        return f"Bearer {token}"
    return None if username is None else "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
