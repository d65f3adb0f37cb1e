"""``POST /api/v1/vapi/calls/{call_id}/subscriptions``: who is told when the call's record is final.

A Kestra execution is resumed, a callback gets the record.
"""

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
from service.callback_url import CallbackUrl, CallbackUrlError, parse_callback_url
from service.errors import Detail, InvalidRequestError, NotConfiguredError
from service.jobs.callbacks import Callbacks

ROUTE: Final = CALL_ROUTE + "/subscriptions"

RESUME: Final = "kestra_resume"
CALLBACK: Final = "callback"

_EXECUTION_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)


async def subscribe(state: State, request: Request) -> Response:
    """202 once Redis has stored it. Repeating a subscription changes nothing and gets the same answer."""
    call_id = read_call_id(request.path_params["call_id"])
    request.scope["log"]["call_id"] = call_id.decode()
    if state.resumer is None and state.callbacks is None:
        raise NotConfiguredError(
            "KESTRA_URL must be set to resume executions, and CALLBACK_ALLOWED_PREFIXES to send callbacks"
        )
    body = await read_json(state, request)
    if read_kind(body) == CALLBACK:
        if state.callbacks is None:
            raise NotConfiguredError("CALLBACK_ALLOWED_PREFIXES must be set to send callbacks")
        url = read_url(body, state.callbacks)
        await state.callbacks.subscribe(call_id, url, is_archived=await _is_archived(state, call_id))
        return JSONResponse(202)
    if state.resumer is None:
        raise NotConfiguredError("KESTRA_URL must be set to resume executions")
    execution_id = read_execution_id(body)
    request.scope["log"]["execution_id"] = execution_id
    is_archived = await _is_archived(state, call_id)
    await state.resumer.subscribe(call_id, execution_id.encode(), is_archived=is_archived)
    return JSONResponse(202)


async def _is_archived(state: State, call_id: bytes) -> bool:
    """Whether only the archive has the final record, so that nothing would ever make the subscription due."""
    return state.archived_calls is not None and await state.archived_calls.has_final(call_id)


def read_kind(body: Any) -> str:
    """Raises InvalidRequestError that lists everything wrong, whatever kind was meant. Unknown members are ignored."""
    if not isinstance(body, dict):
        raise _invalid(Detail("$", "must be an object"))
    kind = body.get("kind")
    if kind in (RESUME, CALLBACK):
        return str(kind)
    wrong = [Detail("$.kind", f"must be {RESUME} or {CALLBACK}")]
    if "url" not in body and not _is_execution_id(body.get("execution_id")):
        wrong.append(_WRONG_EXECUTION_ID)
    raise _invalid(*wrong)


def read_execution_id(body: dict[str, Any]) -> str:
    """Raises InvalidRequestError."""
    execution_id = body.get("execution_id")
    if not _is_execution_id(execution_id):
        raise _invalid(_WRONG_EXECUTION_ID)
    return str(execution_id)


def read_url(body: dict[str, Any], callbacks: Callbacks) -> CallbackUrl:
    """Raises InvalidRequestError, which quotes nothing of the URL."""
    text = body.get("url")
    if not isinstance(text, str):
        raise _invalid(Detail("$.url", "must be a string"))
    try:
        url = parse_callback_url(text)
    except CallbackUrlError as exc:
        raise _invalid(Detail("$.url", str(exc))) from None
    if not callbacks.is_allowed(url):
        raise _invalid(Detail("$.url", "must begin with one of CALLBACK_ALLOWED_PREFIXES"))
    return url


_WRONG_EXECUTION_ID: Final = Detail("$.execution_id", "must match [A-Za-z0-9]{1,64}")


def _is_execution_id(value: Any) -> bool:
    return isinstance(value, str) and _EXECUTION_ID.fullmatch(value) is not None


def _invalid(*wrong: Detail) -> InvalidRequestError:
    return InvalidRequestError("Invalid subscription", details=wrong)
