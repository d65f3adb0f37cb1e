"""Reads the JSON body of the less frequent routes, bounded like a webhook's body."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request

from service.api.body import BoundedBody, ClientGoneError
from service.api.state import State
from service.errors import Detail, InvalidRequestError
from service.vapi.json_checks import check_utf8

MAX_JSON_BYTES: Final = 64 * 1024
"""The longest call request, with every text at its limit, has 24,000 characters. Other bodies are far shorter."""

MAX_BATCH_BYTES: Final = 1024 * 1024
"""10 kB for each of a hundred call requests. At this size JSON of nothing but brackets blocks the event loop for 0.2 s
(8 ms at 64 KiB), but only an administrator can send it.
"""


async def read_json(state: State, request: Request, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The JSON value in a request's body. The caller's token must have been checked before.

    Raises:
        InvalidRequestError: the body is not UTF-8, not JSON, nested too deeply, or ended early.
        BodyTooLargeError: the body is larger than ``max_bytes``.
        UnavailableError: the budget for unfinished bodies is full, and other bodies displaced this one.
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
    """Raises InvalidRequestError as ``read_json`` does; the error never quotes the body."""
    check_utf8(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        detail = Detail("$", "must be JSON")
        raise InvalidRequestError("The body is not valid JSON", details=(detail,)) from None
