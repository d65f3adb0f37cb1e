"""A VAPI for tests: its API over real HTTP, with state, and calls that run their course and send their webhooks.

    async with FakeVapi() as vapi:
        replica = start_replica(**vapi.settings, vapi_webhook_url=...)
        ...                                     # the service places a call: POST /call
        await vapi.run_call(call_id, to=[replica.url])

Written from VAPI's documentation and captures, not from our code. It runs in a thread, so that a test that blocks its
loop (a command-line program, a start of a replica) can be answered. It misbehaves on demand.
"""

from __future__ import annotations

import copy
import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Self

from tests.support.fake_vapi_calls import PHONE_NUMBER_ID, iso, new_call, new_phone_number, newest_first, now_ms
from tests.support.fake_vapi_course import Course
from tests.support.fake_vapi_orders import objections_to_assistant, objections_to_call, refusal
from tests.support.fake_vapi_server import Conduct, LoopbackServer, Reply, Request, Silence
from tests.support.fake_vapi_webhooks import Delivery, Plan, Postman, Server

RECORDINGS: Final = ("mono-recording", "stereo-recording", "customer-recording", "assistant-recording")
ARTIFACTS: Final = (*RECORDINGS, "video-recording", "pcap", "call-logs")

_CALL_PATH: Final = re.compile(r"/call/([^/]+)(?:/([a-z-]+))?")
_ASSISTANT_PATH: Final = re.compile(r"/assistant/([^/]+)")
_NUMBER_PATH: Final = re.compile(r"/phone-number/([^/]+)")


class FakeVapi:
    """``calls``, ``assistants`` and ``phone_numbers`` are its state, by id; a test may read and change them."""

    def __init__(self, api_key: str = "a-private-vapi-key", *, lines: int = 1000) -> None:
        self.api_key = api_key
        self.phone_number_id = PHONE_NUMBER_ID
        self.lines = lines
        """Calls that may be under way at once; one more is answered 201 with ``concurrencyBlocked``."""
        self.calls: dict[str, dict[str, Any]] = {}
        self.assistants: dict[str, dict[str, Any]] = {}
        self.phone_numbers: dict[str, dict[str, Any]] = {self.phone_number_id: new_phone_number(self.phone_number_id)}
        self.deliveries: list[Delivery] = []
        self._snapshots: dict[str, dict[str, Any]] = {}
        self._signatures: set[str] = set()
        self._server = LoopbackServer(self._answer)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def settings(self) -> dict[str, str]:
        """What a replica needs to talk to this VAPI."""
        return {
            "VAPI_API_URL": self.url,
            "VAPI_API_KEY": self.api_key,
            "VAPI_PHONE_NUMBER_ID": self.phone_number_id,
        }

    @property
    def received(self) -> list[Request]:
        """Every request whose head and body were read, whatever became of it."""
        return self._server.received

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of those."""
        return [(request.method, request.path) for request in self.received]

    def start(self) -> Self:
        """For fixtures that many tests share; ``async with`` does the same."""
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    # Misbehaviour

    def refuse_next(
        self,
        status: int,
        message: Any = "Something is wrong.",
        *,
        headers: dict[str, str] | None = None,
        method: str | None = None,
    ) -> None:
        """Answer the next request (of that method) in NestJS's words; what it asks for does not happen."""
        body = {"message": message, "error": "Refused", "statusCode": status}
        self._meet_next(Reply(status, body, headers or {}), method, takes_effect=False)

    def answer_next(
        self, status: int, body: Any, *, headers: dict[str, str] | None = None, method: str | None = None
    ) -> None:
        """Answer the next request with exactly this; bytes go as they are, anything else as JSON."""
        self._meet_next(Reply(status, body, headers or {}), method, takes_effect=False)

    def hang_next(self, *, method: str | None = None, takes_effect: bool = True) -> None:
        """Read the next request, do what it asks, and never answer."""
        self._meet_next(Silence.HANG, method, takes_effect=takes_effect)

    def break_next(self, *, method: str | None = None, takes_effect: bool = True) -> None:
        """Read the next request, do what it asks, and close the connection without an answer."""
        self._meet_next(Silence.BREAK, method, takes_effect=takes_effect)

    def cut_next(self, *, method: str | None = None) -> None:
        """Close the connection in the middle of the next answer."""
        self._meet_next(Silence.CUT, method, takes_effect=True)

    def be_slow(self, delay_s: float) -> None:
        """Take that long for every answer from now on."""
        self._server.delay_s = delay_s

    def holding_answers(self) -> AbstractContextManager[Callable[[], object]]:
        """Answer nothing before the end of the block, or before its function is called, to those that wait by then."""
        return self._server.holding_answers()

    def go_away(self) -> None:
        """Refuse connections."""
        self._server.go_away()

    def come_back(self) -> None:
        self._server.listen()

    def _meet_next(self, instead: Reply | Silence, method: str | None, *, takes_effect: bool) -> None:
        self._server.conducts.append(Conduct(instead, takes_effect, method))

    # Calls and their course

    def add_call(self, number: str = "+18645550123", **order: Any) -> str:
        """A call that somebody else began; returns its id."""
        usual = {"phoneNumberId": self.phone_number_id, "customer": {"number": number}, "assistant": {}}
        return self._keep_call(new_call({**usual, **order}))

    async def run_call(self, call_id: str, to: Sequence[str] = (), plan: Plan | None = None) -> list[Delivery]:
        """Let a call run its course and send what it sends: to the assistant's own server, or to these base URLs."""
        plan, call = plan or Plan(), self.calls[call_id]
        assistant = self._assistant_of(call)
        postman = Postman(plan, Server.of(assistant.get("server") or {}), to)
        await Course(call, self._snapshots[call_id], assistant, plan, postman).run()
        self.deliveries += postman.deliveries
        return postman.deliveries

    def _keep_call(self, call: dict[str, Any]) -> str:
        identifier = str(call["id"])
        self._snapshots[identifier] = copy.deepcopy(call)
        self.calls[identifier] = call
        return identifier

    def _assistant_of(self, call: dict[str, Any]) -> dict[str, Any]:
        """What the call is made with: the inline or saved assistant, and the overrides on top."""
        saved = self.assistants.get(call.get("assistantId", ""), {})
        return {**saved, **(call.get("assistant") or {}), **(call.get("assistantOverrides") or {})}

    # The API

    def _answer(self, request: Request) -> Reply:
        if request.path.startswith("/storage/"):
            return self._storage(request)
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return refusal(401, "Invalid Key. Hot tip, you may be using the private key instead of the public key.")
        if request.path == "/call":
            if request.method == "POST":
                return self._place(request)
            return Reply(200, newest_first(self.calls, request.query))
        if request.path == "/assistant":
            if request.method == "POST":
                return self._create_assistant(request)
            return Reply(200, newest_first(self.assistants, request.query))
        if found := _CALL_PATH.fullmatch(request.path):
            return self._one_call(request.method, found[1], found[2])
        if found := _ASSISTANT_PATH.fullmatch(request.path):
            return self._one_assistant(request, found[1])
        if found := _NUMBER_PATH.fullmatch(request.path):
            number = self.phone_numbers.get(found[1])
            return refusal(404, f"Phone number not found: {found[1]}") if number is None else Reply(200, number)
        return refusal(404, f"Cannot {request.method} {request.path}")

    def _place(self, request: Request) -> Reply:
        order = request.json
        objections = objections_to_call(order, {self.phone_number_id}, set(self.assistants))
        if objections:
            return refusal(400, objections)
        under_way = sum(call["status"] != "ended" for call in list(self.calls.values()))
        call, is_blocked = new_call(order), under_way >= self.lines
        limits = {
            "concurrencyBlocked": is_blocked,
            "concurrencyLimit": self.lines,
            "remainingConcurrentCalls": max(0, self.lines - under_way),
        }
        if not is_blocked:
            self._keep_call(call)
        return Reply(201, {**call, "subscriptionLimits": limits})

    def _one_call(self, method: str, call_id: str, artifact: str | None) -> Reply:
        call = self.calls.get(call_id)
        if call is None:
            return refusal(404, f"Call not found: {call_id}")
        if artifact is not None:
            return self._artifact(call, artifact)
        if method == "DELETE":
            del self.calls[call_id]
        return Reply(200, call)

    def _artifact(self, call: dict[str, Any], kind: str) -> Reply:
        if kind not in ARTIFACTS or "recordingUrl" not in call:
            return refusal(404, "No such artifact for this call.")
        signature = secrets.token_hex(16)
        self._signatures.add(signature)
        return Reply(302, b"", {"location": f"{self.url}/storage/{call['id']}-{kind}?X-Amz-Signature={signature}"})

    def _storage(self, request: Request) -> Reply:
        """The bucket behind the presigned links; it knows no keys, only signatures."""
        if request.query.get("X-Amz-Signature") not in self._signatures:
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>", {"content-type": "application/xml"})
        return Reply(200, b"RIFF....WAVE", {"content-type": "audio/wav"})

    def _create_assistant(self, request: Request) -> Reply:
        objections = objections_to_assistant(request.json, "")
        if objections:
            return refusal(400, objections)
        at = iso(now_ms())
        assistant = {**request.json, "id": str(uuid.uuid4()), "orgId": "org", "createdAt": at, "updatedAt": at}
        self.assistants[assistant["id"]] = assistant
        return Reply(201, assistant)

    def _one_assistant(self, request: Request, identifier: str) -> Reply:
        assistant = self.assistants.get(identifier)
        if assistant is None:
            return refusal(404, f"Assistant not found: {identifier}")
        if request.method == "PATCH":
            objections = objections_to_assistant(request.json, "")
            if objections:
                return refusal(400, objections)
            assistant |= {**request.json, "updatedAt": iso(now_ms())}
        if request.method == "DELETE":
            del self.assistants[identifier]
        return Reply(200, assistant)
