"""The ceiling: reads the body and answers 200, as a Starlette handler."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def receive(request: Request) -> Response:
    await request.body()
    return Response(b'{"success":true}', media_type="application/json")


app = Starlette(
    routes=[
        Route("/api/v1/vapi/webhook", receive, methods=["POST"]),
        Route("/api/v1/vapi/calls/{call_id}", receive, methods=["GET"]),
    ]
)
