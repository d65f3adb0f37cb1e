"""Reads the JSON body of the routes that run seldom, within the same bounds as a webhook's."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from service.api.body import ClientGoneError, HeldBody
from service.api.state import State
from service.errors import Detail, InvalidRequestError
from service.vapi.json_checks import check_utf8


async def read_json(state: State, request: Request) -> tuple[bytes, Any]:
    """The body as it came, and the value in it.

    Raises:
        InvalidRequestError: not UTF-8, not JSON, nested too deeply, or it ended early.
        BodyTooLargeError: over ``MAX_BODY_BYTES``; UnavailableError: bodies in flight hold too much.
    """
    with HeldBody(state.bodies, state.settings.max_body_bytes) as held:
        try:
            body = await held.read(request.scope, request.receive)
        except ClientGoneError:
            raise InvalidRequestError("The body ended early") from None
        return body, decode_json(body)


def decode_json(body: bytes) -> Any:
    """Raises InvalidRequestError, see ``read_json``; it never quotes the body."""
    check_utf8(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        detail = Detail("$", "must be JSON")
        raise InvalidRequestError("The body is not valid JSON", details=(detail,)) from None
