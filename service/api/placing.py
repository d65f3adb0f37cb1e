"""``POST /api/v1/vapi/calls`` and ``/calls/batch``: place one call, or many, a few at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from service.api.json_body import MAX_BATCH_BYTES, read_json
from service.api.responses import JSONAnswer
from service.api.state import State
from service.calls.dialing import METHODS, Method, PlacedCall
from service.errors import Detail, InvalidRequestError, ServiceError, UpstreamError
from service.vapi.call_request import CallRequest, decode_call_request

log = structlog.get_logger(__name__)

ROUTE: Final = "/api/v1/vapi/calls"
BATCH_ROUTE: Final = "/api/v1/vapi/calls/batch"

MAX_REQUESTS: Final = 100
MAX_CONCURRENT: Final = 10
"""The number of calls that VAPI carries at once by default."""
DEFAULT_CONCURRENT: Final = 5

_METHOD_DETAIL: Final = Detail("$.method", f"must be one of {', '.join(METHODS)}")

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


async def place_call(state: State, request: Request) -> Response:
    """202 as soon as VAPI or Kestra has taken it; the same for who asks again with the same ``Idempotency-Key``."""
    key = read_idempotency_key(request)
    body = await read_json(state, request)
    placed = await _place(state, body, None, key)
    request.scope["log"]["call_id"] = placed.call_id
    return JSONAnswer(202, data=placed)


async def place_batch(state: State, request: Request) -> Response:
    """200 with one result per request, in their order; a request that fails is a result like any other."""
    key = read_idempotency_key(request)
    body = await read_json(state, request, MAX_BATCH_BYTES)
    batch = _decode_batch(body)
    turns = asyncio.Semaphore(batch.max_concurrent)

    async def place(index: int, item: Any) -> dict[str, Any]:
        try:
            async with turns:
                return await _result_of(state, item, batch.method, index, key)
        except asyncio.CancelledError:
            return {"success": False, "error": "The service stops; this call was not placed"}

    results = await _all_of([place(index, item) for index, item in enumerate(batch.requests)])
    request.scope["log"]["placed"] = sum(result["success"] for result in results)
    request.scope["log"]["requests"] = len(results)
    return JSONAnswer(results=results)


def read_idempotency_key(request: Request) -> str | None:
    """None without one.

    Raises:
        InvalidRequestError: it is not 1 to 255 visible ASCII characters.
    """
    given = request.scope["named_headers"].get(b"idempotency-key")
    if given is None:
        return None
    key: str = given.decode("latin-1")
    if not _KEY.fullmatch(key):
        detail = Detail("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
        raise InvalidRequestError("Invalid header", details=(detail,))
    return key


async def _place(state: State, item: Any, method: Method | None, key: str | None) -> PlacedCall:
    """``method`` is for a request that names none itself."""
    call_request, own_method = _decode_request(item)
    try:
        return await state.placing.place(call_request, own_method or method, key=key)
    except asyncio.CancelledError:
        # By the server, at the end of its grace: without an answer from us it would send one of its own.
        sentence = "The service stops before there is an answer; nobody knows whether the call was placed"
        raise UpstreamError(sentence, is_outcome_unknown=True) from None


async def _all_of(placings: list[Coroutine[Any, Any, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Their results in order; when the server cuts the request off, what they can say at once."""
    tasks = [asyncio.ensure_future(placing) for placing in placings]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return [task.result() for task in tasks]


async def _result_of(state: State, item: Any, method: Method | None, index: int, key: str | None) -> dict[str, Any]:
    """What a single request would have been answered, as one result of a batch."""
    try:
        placed = await _place(state, item, method, f"{key}:{index}" if key is not None else None)
    except ServiceError as exc:
        result: dict[str, Any] = {"success": False, "error": str(exc)}
        if exc.details:
            result["details"] = [
                {"path": f"$.requests[{index}]{detail.path.removeprefix('$')}", "message": detail.message}
                for detail in exc.details
            ]
        return result
    except Exception:
        log.exception("call.failed", index=index)
        return {"success": False, "error": "Internal server error"}
    return {"success": True, "data": placed}


class _Batch(msgspec.Struct):
    requests: list[Any]
    max_concurrent: int
    method: Method | None


def _decode_batch(body: Any) -> _Batch:
    if not isinstance(body, dict):
        raise InvalidRequestError("Invalid batch", details=(Detail("$", "must be an object"),))
    requests, at_a_time = body.get("requests"), body.get("max_concurrent")
    details = []
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_REQUESTS:
        details.append(Detail("$.requests", f"must be an array of 1 to {MAX_REQUESTS} call requests"))
        requests = []
    if at_a_time is None:
        at_a_time = DEFAULT_CONCURRENT
    elif type(at_a_time) is not int or not 1 <= at_a_time <= MAX_CONCURRENT:
        details.append(Detail("$.max_concurrent", f"must be a whole number, 1 to {MAX_CONCURRENT}"))
    if body.get("method") not in (None, *METHODS):
        details.append(_METHOD_DETAIL)
    if details:
        raise InvalidRequestError("Invalid batch", details=tuple(details))
    return _Batch(requests, at_a_time, body.get("method"))


def _decode_request(item: Any) -> tuple[CallRequest, Method | None]:
    """The call request, and the method where it names one; the refusal tells all that is wrong with both."""
    method = item.get("method") if isinstance(item, dict) else None
    wrong = () if method in (None, *METHODS) else (_METHOD_DETAIL,)
    try:
        request = decode_call_request(item)
    except InvalidRequestError as exc:
        raise InvalidRequestError(str(exc), details=(*exc.details, *wrong)) from None
    if wrong:
        raise InvalidRequestError("Invalid call request", details=wrong)
    return request, method
