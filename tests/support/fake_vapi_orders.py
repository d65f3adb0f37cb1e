"""What VAPI objects to in a ``POST /call`` and in an assistant: the checks of its documentation that a caller can trip on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from tests.support.fake_vapi_server import Reply

CALL_FIELDS: Final = {
    "assistantId", "assistant", "assistantVersion", "assistantOverrides", "squadId", "squad", "squadVersion",
    "squadOverrides", "workflowId", "workflow", "workflowOverrides", "phoneNumberId", "phoneNumber", "customerId",
    "customer", "customers", "name", "schedulePlan", "transport", "metadata",
}  # fmt: skip
"""CreateCallDTO, and ``metadata``, which it takes and gives back without documenting it."""

SERVER_FIELDS: Final = {
    "url", "timeoutSeconds", "credentialId", "staticIpAddressesEnabled", "encryptedPaths", "headers", "backoffPlan",
    "secret",
}  # fmt: skip

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")


def refusal(status: int, message: str | list[str]) -> Reply:
    names = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
    return Reply(status, {"message": message, "error": names[status], "statusCode": status})


def objections_to_call(order: Any, phone_number_ids: set[str], assistant_ids: set[str]) -> list[str]:
    if not isinstance(order, dict):
        return ["body must be an object"]
    return list(_check_call(order, phone_number_ids, assistant_ids))


def objections_to_assistant(assistant: Any, place: str) -> list[str]:
    """``place`` begins each sentence, as in ``assistant.``."""
    if not isinstance(assistant, dict):
        return [f"{place}body must be an object"]
    return list(_check_assistant(assistant, place))


def _check_call(order: dict[str, Any], phone_number_ids: set[str], assistant_ids: set[str]) -> Iterator[str]:
    yield from (f"property {name} should not exist" for name in order.keys() - CALL_FIELDS)
    yield from _check_length(order, "name", "", 0, 40)
    customer = order.get("customer") or {}
    if not _E164.fullmatch(str(customer.get("number", ""))):
        yield (
            "customer.number must be a valid phone number in the E.164 format. Hot tip, you may be missing the "
            "country code (Eg. US: +1)."
        )
    yield from _check_length(customer, "name", "customer.", 0, 40)
    yield from _check_length(customer, "externalId", "customer.", 0, 40)
    if order.get("phoneNumberId") not in phone_number_ids:
        yield "Couldn't Get Phone Number. Does `phoneNumberId` exist?"
    if not any(order.get(name) for name in ("assistant", "assistantId", "squad", "squadId", "workflow", "workflowId")):
        yield "Need Either `assistant`, `assistantId`, `squad`, `squadId`, `workflow`, Or `workflowId`."
    if order.get("assistantId") and order["assistantId"] not in assistant_ids:
        yield "Couldn't Get Assistant. `assistantId` Does Not Exist."
    for name in ("assistant", "assistantOverrides"):
        if order.get(name):
            yield from objections_to_assistant(order[name], f"{name}.")


def _check_assistant(assistant: dict[str, Any], place: str) -> Iterator[str]:
    yield from _check_length(assistant, "name", place, 0, 40)
    yield from _check_range(assistant, "maxDurationSeconds", place, 10, 43_200)
    for phrase in assistant.get("endCallPhrases") or ():
        if not 2 <= len(str(phrase)) <= 140:
            yield f"each value in {place}endCallPhrases must be longer than 2 and shorter than 140 characters"
    server = assistant.get("server") or {}
    yield from (f"{place}server.property {name} should not exist" for name in server.keys() - SERVER_FIELDS)
    yield from _check_range(server, "timeoutSeconds", f"{place}server.", 1, 300)
    backoff = server.get("backoffPlan") or {}
    yield from _check_range(backoff, "maxRetries", f"{place}server.backoffPlan.", 0, 10)
    yield from _check_range(backoff, "baseDelaySeconds", f"{place}server.backoffPlan.", 0, 10)
    if backoff and backoff.get("type") not in {"fixed", "exponential"}:
        yield f"{place}server.backoffPlan.type must be one of the following values: fixed, exponential"
    for name, plan in (assistant.get("analysisPlan") or {}).items():
        if isinstance(plan, dict):
            yield from _check_range(plan, "timeoutSeconds", f"{place}analysisPlan.{name}.", 1, 60)


def _check_length(fields: dict[str, Any], name: str, place: str, least: int, most: int) -> Iterator[str]:
    text = fields.get(name)
    if text is not None and not (isinstance(text, str) and least <= len(text) <= most):
        yield f"{place}{name} must be shorter than or equal to {most} characters"


def _check_range(fields: dict[str, Any], name: str, place: str, least: int, most: int) -> Iterator[str]:
    number = fields.get(name)
    if number is not None and not (isinstance(number, int | float) and least <= number <= most):
        yield f"{place}{name} must not be less than {least} or greater than {most}"
