"""OpenAPI: what VAPI sends, once as our two paths and once as the webhooks of VAPI, by message type."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, structs

from service.api.openapi.bodies import Succeeded
from service.api.openapi.examples import A_CALL_ID, A_PHONE
from service.api.openapi.operation import Body, DescribedAnswer, Operation, json_of
from service.api.openapi.server_message import WebhookBody
from service.vapi.intake import CALL_DELETED, REPORT, STATUS_UPDATE
from service.vapi.replies import ENDPOINTING_TIMEOUT_S, NOT_HANDLED

WEBHOOKS: Final = "webhooks"


class Acknowledgement(Struct):
    """Redis or the spool has the message, or there was nothing to keep."""

    success: Succeeded
    message: Annotated[str, Meta(description="`Webhook processed: <type>`")]
    callId: Annotated[str | None, Meta(description="Null for a message that concerns no call")]  # noqa: N815


class NotHandled(Struct):
    error: str


class ToolResult(Struct):
    toolCallId: str  # noqa: N815
    error: str


class ToolResults(Struct):
    results: Annotated[list[ToolResult], Meta(description="One for each tool call")]


class FoundDocuments(Struct):
    documents: list[Any]


class Endpointing(Struct):
    timeoutSeconds: float  # noqa: N815


class Predial(Struct):
    eligible: bool


class FunctionResult(Struct):
    result: str


_A_CALL: Final = {"id": A_CALL_ID, "type": "outboundPhoneCall", "customer": {"number": A_PHONE}}
_NOT_HANDLED: Final = NotHandled(NOT_HANDLED)
_A_TOOL_CALL: Final = {"id": "call_8xQ2", "type": "function", "function": {"name": "lookup", "arguments": {}}}


def _message(type_: str, **fields: Any) -> dict[str, Any]:
    return {"message": {"type": type_, "timestamp": 1788264160000, "call": _A_CALL, **fields}}


MESSAGES: Final = {
    STATUS_UPDATE: _message(STATUS_UPDATE, status="in-progress"),
    REPORT: _message(
        REPORT,
        endedReason="assistant-ended-call",
        startedAt="2026-09-01T12:00:05.000Z",
        endedAt="2026-09-01T12:02:35.000Z",
        durationSeconds=150,
        cost=0.18,
        analysis={"summary": "Acme Plumbing can come on Saturday morning.", "successEvaluation": "true"},
        artifact={"transcript": "AI: Hello, is this Acme Plumbing?\nUser: Yes, it is."},
    ),
    CALL_DELETED: _message(CALL_DELETED),
    "hang": _message("hang"),
}
"""What VAPI reports: an example of each type that changes more than a record's context."""

QUESTIONS: Final[dict[str, tuple[dict[str, Any], Struct]]] = {
    "assistant-request": (_message("assistant-request"), _NOT_HANDLED),
    "tool-calls": (
        _message("tool-calls", toolCallList=[_A_TOOL_CALL]),
        ToolResults([ToolResult("call_8xQ2", NOT_HANDLED)]),
    ),
    "transfer-destination-request": (_message("transfer-destination-request"), _NOT_HANDLED),
    "handoff-destination-request": (_message("handoff-destination-request"), _NOT_HANDLED),
    "knowledge-base-request": (_message("knowledge-base-request", messages=[]), FoundDocuments([])),
    "call.endpointing.request": (_message("call.endpointing.request"), Endpointing(ENDPOINTING_TIMEOUT_S)),
    "campaign.predial": (_message("campaign.predial"), Predial(False)),
    "function-call": (_message("function-call"), FunctionResult(NOT_HANDLED)),
}
"""What a live call waits for: the question and our answer, which means "not handled here"."""

VOICE: Final = "voice-request"
_SILENCE: Final = Body(types=(bytes,), examples={}, media_type="application/octet-stream")

_KEPT: Final = Acknowledgement(True, f"Webhook processed: {REPORT}", A_CALL_ID)
_REPLIES: Final = (NotHandled, ToolResults, FoundDocuments, Endpointing, Predial, FunctionResult)

TAKE_WEBHOOK: Final = Operation(
    id="takeWebhook",
    tag=WEBHOOKS,
    summary="take one VAPI server message",
    description='Any type is taken; those that VAPI waits for get an answer that means "not handled here". Repeating a '
    "message changes nothing, and the order of messages does not matter.",
    body=json_of(WebhookBody, **{REPORT: MESSAGES[REPORT], STATUS_UPDATE: MESSAGES[STATUS_UPDATE]}),
    answers=(
        DescribedAnswer(
            status=200,
            description="It is kept, or there was nothing to keep",
            bodies=(
                Body(
                    types=(Acknowledgement, *_REPLIES),
                    examples={"kept": _KEPT, "tool-calls": QUESTIONS["tool-calls"][1]},
                ),
                _SILENCE,
            ),
        ),
    ),
    failures={
        400: "Not JSON, not UTF-8, nested too deeply, no `message.type`, or a status update or report without a call id",
        401: "The proof is missing or wrong",
        413: "The body is larger than `MAX_BODY_BYTES`",
        415: "The request has a `Content-Encoding`",
        429: "Too many webhooks of this address (`RATE_LIMIT_PER_MINUTE`), or too many without a valid proof",
        503: "Neither Redis nor the spool could take it, or too many bodies are on their way: VAPI should repeat it",
    },
)

TAKE_WEBHOOK_TOO: Final = structs.replace(TAKE_WEBHOOK, id="takeWebhookToo", summary="the same")


def webhook_operations() -> dict[str, Operation]:
    """One operation for each type of message, as VAPI sends it to the URL that is set as its server."""
    operations = {
        type_: _sent(type_, "VAPI reports", example, json_of(Acknowledgement, kept=_KEPT))
        for type_, example in MESSAGES.items()
    }
    operations |= {
        type_: _sent(type_, "A live call asks", question, json_of(type(answer), not_handled=answer))
        for type_, (question, answer) in QUESTIONS.items()
    }
    operations[VOICE] = _sent(VOICE, "A live call asks for sound", _message(VOICE), _SILENCE)
    return operations


def _sent(type_: str, who: str, example: dict[str, Any], answer: Body) -> Operation:
    name = "".join(part.capitalize() for part in type_.replace(".", "-").split("-"))
    return structs.replace(
        TAKE_WEBHOOK,
        id=f"on{name}",
        summary=f"{who}: {type_}",
        description="",
        body=json_of(WebhookBody, **{type_: example}),
        answers=(DescribedAnswer(status=200, description="It was taken", bodies=(answer,)),),
    )
