"""OpenAPI: who may call a route, and how callers and VAPI prove who they are."""

from __future__ import annotations

from typing import Final

from service.api.auth import Access
from service.api.openapi.operation import Operation

Requirement = dict[str, list[str]]

SCHEMES: Final[dict[str, dict[str, str]]] = {
    "vapiSecret": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Vapi-Secret",
        "description": "Mode `secret` of `VAPI_WEBHOOK_AUTH`: a secret of `VAPI_WEBHOOK_SECRET`, with or without `Bearer` "
        "before it. `VAPI_SECRET_HEADER` renames the header. `X-Vapi-Signature` may hold it as well",
    },
    "vapiBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "Mode `bearer`: a secret of `VAPI_WEBHOOK_SECRET`; the word `Bearer` may be missing",
    },
    "vapiHmac": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Signature",
        "description": "Mode `hmac`: the HMAC of the raw body by the scheme that `VAPI_HMAC_*` describes; by default hex "
        "SHA-256 of `{timestamp}.{body}`. `VAPI_HMAC_SIGNATURE_HEADER` renames the header",
    },
    "vapiHmacTimestamp": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Timestamp",
        "description": "Signed along with the body: seconds or milliseconds since 1970, at most 5 minutes off. "
        "`VAPI_HMAC_TIMESTAMP_HEADER` renames the header",
    },
    "vapiLegacy": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Vapi-Signature",
        "description": "Mode `legacy`: hex HMAC-SHA256 of the raw body; off once any `VAPI_HMAC_*` is set",
    },
    "readToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `API_READ_TOKENS`: reads and subscribes",
    },
    "adminToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `API_ADMIN_TOKENS`: may do everything that a read token may; also delete, place calls, "
        "get the assistant, see stats",
    },
}
"""Tokens are last because Swagger UI's dialog opens at its end, and a token is what people have."""

_READER: Final[tuple[Requirement, ...]] = ({"readToken": []}, {"adminToken": []})
_VAPI: Final[tuple[Requirement, ...]] = (
    {"vapiSecret": []},
    {"vapiBearer": []},
    {"vapiHmac": [], "vapiHmacTimestamp": []},
    {"vapiLegacy": []},
)


def security_of(operation: Operation, access: Access | None) -> list[Requirement]:
    """Any one of these is enough; none is needed where the list is empty."""
    if access is None:
        return [*_VAPI]
    if access is Access.OPEN:
        return [{}, *_READER] if operation.takes_token else []
    return [*_READER] if access is Access.READ else [{"adminToken": []}]
