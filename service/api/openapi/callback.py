"""OpenAPI: the request that a callback gets."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from service.api.openapi.bodies import FoundCall
from service.api.openapi.examples import A_CALL_ID, a_summary
from service.api.openapi.operation import Body
from service.api.openapi.schemas import Schemas

TARGET: Final = "{$request.body#/url}"

_HEADERS: Final = {
    "webhook-id": "The same in all tries: skip those that you have seen",
    "webhook-timestamp": "When this try was made, in seconds since 1970",
    "webhook-signature": "`v1,` and the base64 of the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}`, one for "
    "each secret of `CALLBACK_SECRET`, separated by spaces",
}

_ANSWERS: Final = {
    "2XX": "Taken; the body does not matter",
    "410": "Nobody wants it any more; it is not sent again",
    "default": "It is sent again, after growing pauses and for a day at most. Redirects are not followed",
}


class NoCall(Struct):
    """The call was deleted, or VAPI does not know it."""

    success: bool
    error: str
    call_id: str


_BODY: Final = Body(
    types=(FoundCall, NoCall),
    examples={
        "final": {"success": True, "data": a_summary()},
        "deleted": NoCall(False, "Call result not found", A_CALL_ID),
    },
)


def finished_call(schemas: Schemas) -> dict[str, Any]:
    """The callback object of the route that takes subscriptions."""
    operation = {
        "operationId": "finishedCall",
        "summary": "the record of a call that is final, or deleted",
        "description": "The summary view, as a [Standard Webhook](https://www.standardwebhooks.com). At least once.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": schemas.of(str)}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": schemas.content_of((_BODY,))},
        "responses": {status: {"description": text} for status, text in _ANSWERS.items()},
        "security": [],
    }
    return {TARGET: {"post": operation}}
