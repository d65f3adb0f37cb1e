"""Serves the assistant's configuration to callers that place calls themselves, such as Kestra's scripts."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.api.json_body import read_json
from service.api.responses import JSONResponse
from service.api.state import State
from service.calls.call_request import decode_call_request
from service.vapi.assistant.config import create_assistant_config

PATH = "/api/v1/vapi/assistant-config"


async def make_assistant_config(state: State, request: Request) -> Response:
    """The whole VAPI assistant for a call request. It includes the webhook secret, so it is for admins only."""
    value = await read_json(state, request)
    return JSONResponse(data=create_assistant_config(decode_call_request(value), state.settings))
