"""Somebody who gets callbacks: verifies them with the library of Standard Webhooks, and can be made to misbehave."""

from __future__ import annotations

import base64
import ssl
from collections import Counter
from typing import Any, Final, Self

from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.fake_vapi_server import Conduct, LoopbackServer, Reply, Request, Silence

SECRET: Final = "whsec_" + base64.b64encode(b"a key of the tests, 32 bytes long").decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"the key before it, 32 bytes long.").decode()


class CallbackReceiver:
    """Answers 200, or 401 where the signature is wrong. ``always`` answers a path in another way."""

    def __init__(self, *, secret: str = SECRET, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._server = LoopbackServer(self._answer, tls=tls)
        self._scheme = "https" if tls else "http"
        self._host = host
        self._webhook = Webhook(secret)
        self.unverified = 0
        self.always: dict[str, Reply] = {}

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self._host}:{self._server.port}"

    @property
    def requests(self) -> list[Request]:
        """All, in the order in which they came."""
        return self._server.received

    def start(self) -> Self:
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def go_away(self) -> None:
        self._server.go_away()

    def come_back(self) -> None:
        self._server.listen()

    def meet_next(self, *instead: Reply | Silence) -> None:
        """Meet the next requests so, instead of answering them."""
        self._server.conducts += [Conduct(one, takes_effect=False, method=None) for one in instead]

    def sent_to(self, target: str) -> list[Request]:
        return [request for request in self.requests if request.target == target]

    def bodies(self, target: str) -> list[Any]:
        return [request.json for request in self.sent_to(target)]

    @property
    def calls(self) -> Counter[str]:
        """How often each call's record came."""
        return Counter(request.json["data"]["call_id"] for request in self.requests)

    def _answer(self, request: Request) -> Reply:
        try:
            self._webhook.verify(request.body, request.headers)
        except WebhookVerificationError:
            self.unverified += 1
            return Reply(401)
        return self.always.get(request.target, Reply(200))
