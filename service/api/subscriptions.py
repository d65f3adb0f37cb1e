"""``POST /api/v1/vapi/calls/{call_id}/subscriptions``: resumes a Kestra execution when the call's record is final."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.json_body import read_json
from service.api.poll_request import read_call_id
from service.api.polling import ROUTE as CALL_ROUTE
from service.api.responses import JSONResponse
from service.api.state import State
from service.errors import Detail, InvalidRequestError, NotConfiguredError

ROUTE: Final = CALL_ROUTE + "/subscriptions"

KIND: Final = "kestra_resume"

_EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)


async def subscribe(state: State, request: Request) -> Response:
    """202 once Redis has stored it. Repeating a subscription changes nothing and gets the same answer."""
    call_id = read_call_id(request.path_params["call_id"])
    request.scope["log"]["call_id"] = call_id.decode()
    if state.subscriptions is None:
        raise NotConfiguredError("KESTRA_URL must be set to resume executions")
    body = await read_json(state, request)
    execution_id = read_execution_id(body)
    request.scope["log"]["execution_id"] = execution_id
    await state.subscriptions.subscribe(call_id, execution_id.encode())
    return JSONResponse(202)


def read_execution_id(body: Any) -> str:
    """Raises InvalidRequestError that lists everything wrong. Unknown members are ignored."""
    if not isinstance(body, dict):
        raise InvalidRequestError("Invalid subscription", details=(Detail("$", "must be an object"),))
    wrong: list[Detail] = []
    if body.get("kind") != KIND:
        wrong.append(Detail("$.kind", f"must be {KIND}"))
    execution_id = body.get("execution_id")
    if not isinstance(execution_id, str) or not _EXECUTION_ID.fullmatch(execution_id):
        wrong.append(Detail("$.execution_id", "must match [A-Za-z0-9]{1,64}"))
        execution_id = ""
    if wrong:
        raise InvalidRequestError("Invalid subscription", details=tuple(wrong))
    return execution_id
