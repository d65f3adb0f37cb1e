"""``/api/v1/vapi/calls/batch``: places many calls, a few at a time, and reports the progress."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.api.json_body import MAX_BATCH_BYTES, read_json
from service.api.placing import METHOD_DETAIL, place_one, read_idempotency_key
from service.api.responses import JSONResponse
from service.api.state import State
from service.errors import Detail, InvalidRequestError, NotFoundError, ServiceError
from service.jobs.batches import failure
from service.jobs.dialer import METHODS, Method
from service.store.batches import BatchStanding, create_batch_claim

ROUTE: Final = "/api/v1/vapi/calls/batch"
ONE_ROUTE: Final = ROUTE + "/{batch_id}"

MAX_REQUESTS: Final = 100
MAX_CONCURRENT: Final = 10
"""VAPI's default limit of concurrent calls."""
DEFAULT_CONCURRENT: Final = 5

ANSWER_WITHIN_S: Final = 20.0
"""After this we answer 202. Common load balancers cut a request after 30 s; then nobody knows which phones rang."""

_BATCH_ID: Final = re.compile(r"[0-9a-f]{32}")


async def place_batch(state: State, request: Request) -> Response:
    """200 once every request has a result; 202 with the results so far after ANSWER_WITHIN_S.

    A failed request counts as a result. The batch continues when its caller disconnects.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + ANSWER_WITHIN_S
    key = read_idempotency_key(request)
    body = await read_json(state, request, MAX_BATCH_BYTES)
    batch = _decode_batch(body)

    async def place(index: int) -> bytes:
        item_key = f"{key}:{index}" if key is not None else None
        return await _result_of(state, batch.requests[index], batch.method, index, item_key)

    claim = create_batch_claim(key, batch.fingerprint, len(batch.requests))
    await state.batches.begin(claim, batch.max_concurrent, place)
    standing = await state.batches.wait(claim.batch_id, until - loop.time())
    _log(request, claim.batch_id, standing)
    if standing.is_done:
        return JSONResponse(results=_rendered(standing))
    return JSONResponse(202, **_fields_of(claim.batch_id, standing))


async def get_batch(state: State, request: Request) -> Response:
    batch_id = request.path_params["batch_id"]
    standing = await state.batches.find(batch_id) if _BATCH_ID.fullmatch(batch_id) else None
    if standing is None:
        raise NotFoundError("Batch not found; a batch is kept for 24 hours")
    _log(request, batch_id, standing)
    return JSONResponse(**_fields_of(batch_id, standing))


def _log(request: Request, batch_id: str, standing: BatchStanding) -> None:
    placed = sum(result.startswith(b'{"success":true') for result in standing.results if result is not None)
    request.scope["log"] |= {"batch_id": batch_id, "placed": placed, "requests": len(standing.results)}


def _fields_of(batch_id: str, standing: BatchStanding) -> dict[str, Any]:
    total = len(standing.results)
    return {"batch_id": batch_id, "done": standing.done, "total": total, "results": _rendered(standing)}


def _rendered(standing: BatchStanding) -> list[msgspec.Raw | None]:
    return [None if result is None else msgspec.Raw(result) for result in standing.results]


async def _result_of(state: State, item: Any, method: Method | None, index: int, key: str | None) -> bytes:
    """One result of the batch: the answer that this request would get on its own."""
    try:
        placed = await place_one(state, item, method, key)
    except ServiceError as exc:
        if not exc.details:
            return failure(str(exc))
        details = [
            {"path": f"$.requests[{index}]{detail.path.removeprefix('$')}", "message": detail.message}
            for detail in exc.details
        ]
        return msgspec.json.encode({"success": False, "error": str(exc), "details": details})
    return msgspec.json.encode({"success": True, "data": placed})


class _Batch(msgspec.Struct):
    requests: list[Any]
    max_concurrent: int
    method: Method | None

    @property
    def fingerprint(self) -> bytes:
        """Equal for batches that say the same, however their JSON is written."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest().encode()


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
        details.append(METHOD_DETAIL)
    if details:
        raise InvalidRequestError("Invalid batch", details=tuple(details))
    return _Batch(requests, at_a_time, body.get("method"))
