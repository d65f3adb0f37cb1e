"""Reads the JSON body of the routes that run seldom, within the same bounds as a webhook's."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request

from service.api.body import BoundedBody, ClientGoneError
from service.api.state import State
from service.errors import Detail, InvalidRequestError
from service.vapi.json_checks import check_utf8

MAX_JSON_BYTES: Final = 64 * 1024
"""The longest call request, every text at its limit, has 24,000 characters; everything else is far shorter."""

MAX_BATCH_BYTES: Final = 1024 * 1024
"""Of a hundred call requests: 10 kB for each. JSON made of nothing but brackets keeps the loop for 0.2 s at this size
(8 ms at 64 KiB), and only an administrator can send it.
"""


async def read_json(state: State, request: Request, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The value in the body of a request whose token was checked.

    Raises:
        InvalidRequestError: not UTF-8, not JSON, nested too deeply, or it ended early.
        BodyTooLargeError: over ``max_bytes``; UnavailableError: the budget for unfinished
            bodies is full, and this one had to give way.
    """
    scope = request.scope
    with BoundedBody(state.bodies, min(max_bytes, state.settings.max_body_bytes)) as held:
        try:
            address = state.addresses.network_of(scope)
            body = await held.read_among(state.callers_bodies, address, None, scope, request.receive)
        except ClientGoneError:
            raise InvalidRequestError("The body ended early") from None
        return decode_json(body)


def decode_json(body: bytes) -> Any:
    """Raises InvalidRequestError, see ``read_json``; it never quotes the body."""
    check_utf8(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        detail = Detail("$", "must be JSON")
        raise InvalidRequestError("The body is not valid JSON", details=(detail,)) from None
