"""``POST /api/v1/vapi/calls``: places one call."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.json_body import read_json
from service.api.responses import JSONResponse
from service.api.state import State
from service.calls.call_request import CallRequest, decode_call_request
from service.errors import Detail, InvalidRequestError, UpstreamError
from service.jobs.dialer import METHODS, Method, PlacedCall

ROUTE: Final = "/api/v1/vapi/calls"

METHOD_DETAIL: Final = Detail("$.method", f"must be one of {', '.join(METHODS)}")

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


async def place_call(state: State, request: Request) -> Response:
    """202 once VAPI or Kestra has accepted it. A repeat with the same ``Idempotency-Key`` gets the same answer."""
    key = read_idempotency_key(request)
    body = await read_json(state, request)
    placed = await place_one(state, body, None, key)
    request.scope["log"]["call_id"] = placed.call_id
    return JSONResponse(202, data=placed)


def read_idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key``; None when the request has none.

    Raises:
        InvalidRequestError: the key is not 1 to 255 visible ASCII characters.
    """
    given = request.scope["named_headers"].get(b"idempotency-key")
    if given is None:
        return None
    key: str = given.decode("latin-1")
    if not _KEY.fullmatch(key):
        detail = Detail("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
        raise InvalidRequestError("Invalid header", details=(detail,))
    return key


async def place_one(state: State, item: Any, method: Method | None, key: str | None) -> PlacedCall:
    """``method`` applies when the request names none. Raises UpstreamError also when the process ends meanwhile."""
    call_request, own_method = _decode_request(item)
    try:
        return await state.placing.place(call_request, own_method or method, key=key)
    except asyncio.CancelledError:
        # The server cancels us at the end of its grace. If we do not answer, it sends an answer of its own.
        sentence = "The service stops before there is an answer; nobody knows whether the call was placed"
        raise UpstreamError(sentence, is_outcome_unknown=True) from None


def _decode_request(item: Any) -> tuple[CallRequest, Method | None]:
    """The call request and its method, if it names one. The error lists everything wrong with both."""
    method = item.get("method") if isinstance(item, dict) else None
    wrong = () if method in (None, *METHODS) else (METHOD_DETAIL,)
    try:
        request = decode_call_request(item)
    except InvalidRequestError as exc:
        raise InvalidRequestError(str(exc), details=(*exc.details, *wrong)) from None
    if wrong:
        raise InvalidRequestError("Invalid call request", details=wrong)
    return request, method
