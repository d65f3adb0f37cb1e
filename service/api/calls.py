"""The less frequent calls routes: delete a call, list the calls of a phone number."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.api.archived_pages import find_archived_page
from service.api.poll_request import read_call_id
from service.api.reading import CallPage, deadlines_of, read_call
from service.api.responses import JSONResponse, LargeResponse
from service.api.state import State
from service.calls.phone import MAX_PHONE_LENGTH, mask_phone, normalize_phone
from service.calls.record import render_record
from service.calls.stored_call import StoredCall
from service.errors import ArchiveUnavailableError, Detail, InvalidRequestError, NotFoundError

BY_PHONE_ROUTE: Final = "/api/v1/vapi/calls/by-phone/{phone}"

MAX_LIMIT: Final = 100
MAX_OFFSET: Final = 10_000
"""Bounds the cost of a page, which reads offset + limit index entries."""


async def delete_call(state: State, request: Request) -> Response:
    call_id = read_call_id(request.path_params["call_id"])
    request.scope["log"]["call_id"] = call_id.decode()
    deadline = time.monotonic() + state.settings.store_timeout_s
    was_there = await state.calls.delete(call_id)
    # Its row is deleted in a moment: the stream of changes carries the deletion.
    if not was_there and (state.archive is None or await state.archive.find(call_id, (), deadline=deadline) is None):
        raise NotFoundError("Call result not found")
    return JSONResponse(message="Call result deleted", callId=call_id.decode())


async def list_calls_by_phone(state: State, request: Request) -> Response:
    """Newest first by ``updated_at``. ``count`` is the number of all calls of the phone number, live or archived.

    While a part of Redis is away, ``missing_buckets`` names the buckets whose calls are neither listed nor counted.
    While the archive is away, ``archive_missing`` says that only live calls are.
    """
    phone = normalize_phone(request.path_params["phone"])
    if len(phone) > MAX_PHONE_LENGTH:
        detail = Detail("phone", f"must have {MAX_PHONE_LENGTH} characters at most")
        raise InvalidRequestError("Invalid phone number", details=(detail,))
    request.scope["log"]["phone"] = mask_phone(phone)
    limit = read_int(request, "limit", default=10, least=1, most=MAX_LIMIT)
    offset = read_int(request, "offset", default=0, least=0, most=MAX_OFFSET)
    missing: dict[str, object] = {}
    page = None
    if state.archive is not None:
        try:
            page = await find_archived_page(state, state.archive, phone, offset=offset, limit=limit)
        except ArchiveUnavailableError:
            missing["archive_missing"] = True
    if page is None:
        page = await _find_live_page(state, phone, limit, offset)
    if page.missing_buckets:
        missing["missing_buckets"] = page.missing_buckets
    pagination = {"limit": limit, "offset": offset, "hasMore": offset + limit < page.count}
    data = [msgspec.Raw(render_record(call, "summary")) for call in page.calls]
    answer = JSONResponse(data=data, count=page.count, pagination=pagination, **missing)
    return LargeResponse(state.large_bodies, bytes(answer.body))


async def _find_live_page(state: State, phone: str, limit: int, offset: int) -> CallPage:
    fragment = msgspec.json.encode(phone)
    look_until, deadline = deadlines_of(state)
    async with state.phone_index.turn(offset + limit, look_until):
        page = await state.phone_index.find_page(fragment[1:-1], offset=offset, limit=limit, deadline=look_until)
        reads = (read_call(state, call_id, "summary", deadline=deadline) for call_id in page.call_ids)
        found = await asyncio.gather(*reads)
    # Leave out calls that expired, were deleted or changed their number since the index was read.
    calls = [call for call in found if isinstance(call, StoredCall) and call.facts.customer_phone == fragment]
    calls.sort(key=lambda call: (call.updated_at_ms, call.call_id), reverse=True)
    return CallPage(calls, page.count, page.missing_buckets)


def read_int(request: Request, name: str, *, default: int, least: int, most: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 300 else -1
    if number < least or (most is not None and number > most):
        bounds = f"{least} to {most}" if most is not None else f"{least} or more"
        raise InvalidRequestError("Invalid query", details=(Detail(name, f"must be a whole number, {bounds}"),))
    return number
