"""The less frequent calls routes: delete a call, list the calls of a phone number."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.api.poll_request import read_call_id
from service.api.responses import JSONResponse, LargeResponse
from service.api.state import State
from service.calls.phone import MAX_PHONE_LENGTH, mask_phone, normalize_phone
from service.calls.record import LARGE_OF_VIEW, View, is_past_grace, render_record
from service.calls.status import DataStatus
from service.calls.stored_call import StoredCall, Tombstone
from service.errors import Detail, InvalidRequestError, NotFoundError, StoreUnavailableError

BY_PHONE_ROUTE: Final = "/api/v1/vapi/calls/by-phone/{phone}"

MAX_LIMIT: Final = 100
MAX_OFFSET: Final = 10_000
"""Bounds the cost of a page, which reads offset + limit index entries."""

LOOK_SHARE: Final = 0.5
"""Share of ``STORE_TIMEOUT_S`` for reading the indexes; one attempt at a server takes as long."""


async def delete_call(state: State, request: Request) -> Response:
    call_id = read_call_id(request.path_params["call_id"])
    request.scope["log"]["call_id"] = call_id.decode()
    if not await state.calls.delete(call_id):
        raise NotFoundError("Call result not found")
    return JSONResponse(message="Call result deleted", callId=call_id.decode())


async def list_calls_by_phone(state: State, request: Request) -> Response:
    """Newest first by ``updated_at``. ``count`` is the number of all live calls of the phone number.

    While a part of Redis is away, ``missing_buckets`` names the buckets whose calls are neither listed nor counted.
    """
    phone = normalize_phone(request.path_params["phone"])
    if len(phone) > MAX_PHONE_LENGTH:
        detail = Detail("phone", f"must have {MAX_PHONE_LENGTH} characters at most")
        raise InvalidRequestError("Invalid phone number", details=(detail,))
    request.scope["log"]["phone"] = mask_phone(phone)
    limit = read_int(request, "limit", default=10, least=1, most=MAX_LIMIT)
    offset = read_int(request, "offset", default=0, least=0, most=MAX_OFFSET)
    fragment = msgspec.json.encode(phone)
    look_until, deadline = deadlines_of(state)
    async with state.phone_index.turn(offset + limit, look_until):
        page = await state.phone_index.find_page(fragment[1:-1], offset=offset, limit=limit, deadline=look_until)
        reads = (read_call(state, call_id, "summary", deadline=deadline) for call_id in page.call_ids)
        found = await asyncio.gather(*reads)
    # Leave out calls that expired, were deleted or changed their number since the index was read.
    calls = [call for call in found if isinstance(call, StoredCall) and call.facts.get("customer_phone") == fragment]
    calls.sort(key=lambda call: (call.updated_at_ms, call.call_id), reverse=True)
    pagination = {"limit": limit, "offset": offset, "hasMore": offset + limit < page.count}
    data = [msgspec.Raw(render_record(call, "summary")) for call in calls]
    missing = {"missing_buckets": page.missing_buckets} if page.missing_buckets else {}
    answer = JSONResponse(data=data, count=page.count, pagination=pagination, **missing)
    return LargeResponse(state.large_bodies, bytes(answer.body))


def deadlines_of(state: State) -> tuple[float, float]:
    """Two deadlines for an answer about many calls: one to scan all buckets, one to read the calls that were found.

    A bucket whose shard is away does not answer. A scan that spent the request's whole time waiting for it would
    leave no time to read the calls in the other buckets.
    """
    now, timeout_s = time.monotonic(), state.settings.store_timeout_s
    return now + timeout_s * LOOK_SHARE, now + timeout_s


async def read_call(
    state: State, call_id: bytes, view: View, *, deadline: float | None = None
) -> StoredCall | Tombstone | None:
    """The call as it is now, read within ``STORE_TIMEOUT_S`` or by ``deadline`` (``time.monotonic``).

    If its report grace has ended, that is written first. If Redis cannot take the write (it may be full), the call is
    returned as it was.
    """
    if deadline is None:
        deadline = time.monotonic() + state.settings.store_timeout_s
    call = await state.calls.find(call_id, LARGE_OF_VIEW[view], deadline=deadline)
    if (
        isinstance(call, StoredCall)
        and call.data_status == DataStatus.PARTIAL  # checked first: most calls are not, and the clock costs 1 us
        and is_past_grace(call, state.sweep.now_ms(call_id), state.settings.report_grace_ms)
    ):
        try:
            state.metrics.merged(await state.calls.expire_grace(call_id, deadline=deadline))
        except StoreUnavailableError:
            return call
        call = await state.calls.find(call_id, LARGE_OF_VIEW[view], deadline=deadline)
    return call


def read_int(request: Request, name: str, *, default: int, least: int, most: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 300 else -1
    if number < least or (most is not None and number > most):
        bounds = f"{least} to {most}" if most is not None else f"{least} or more"
        raise InvalidRequestError("Invalid query", details=(Detail(name, f"must be a whole number, {bounds}"),))
    return number
