"""Servers at an address that Kestra's flows may be given: strangers, and one that answers as this service would."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.fake_vapi_server import LoopbackServer, Reply, Request

HTML: Final = {"content-type": "text/html"}
NO_PAGE: Final = Reply(404, b"<html><h1>404 Not Found</h1></html>", HTML)
NO_ROUTE: Final = Reply(404, {"detail": "Not Found"})
NO_SUCCESS: Final = Reply(404, b'{"success":false,"error":"Not Found"}')
PAGE: Final = Reply(200, b"<!doctype html><title>Welcome</title>", HTML)
NOT_ALLOWED: Final = Reply(405, b"<html><h1>405 Not Allowed</h1></html>", HTML)

VOICEMAIL: Final = {"call_id": "call-1", "data_status": "complete", "analysis_reliable": False, "outcome": "voicemail"}


def stranger(to_get: Reply, to_post: Reply | None = None) -> LoopbackServer:
    """Gives the same answer whatever it is asked; the second one, if there is one, to a POST."""
    return LoopbackServer(lambda request: to_post if to_post is not None and request.method == "POST" else to_get)


def stand_in(poll: Reply | None = None) -> LoopbackServer:
    """Takes every call as this service would, at any path, and answers polls with ``poll``, or with a final record."""

    def answer(request: Request) -> Reply:
        if request.path.endswith("/events"):
            event = f"event: call\nid: 1\ndata: {json.dumps(VOICEMAIL)}\n\n"
            return Reply(200, event.encode(), {"content-type": "text/event-stream"})
        if request.method != "POST":
            return poll or compact(200, data=VOICEMAIL)
        placed = {"call_id": "call-1", "status": "queued", "method": "vapi"}
        if request.path.endswith("/batch"):
            return compact(200, results=[{"success": True, "data": placed}])
        return compact(202, data=placed)

    return LoopbackServer(answer)


def compact(status: int, **fields: Any) -> Reply:
    """As this service writes JSON."""
    return Reply(status, json.dumps({"success": True, **fields}, separators=(",", ":")).encode())
