"""OpenAPI: placing calls, one or many, and the assistant that makes them."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from service.api.batches import DEFAULT_CONCURRENT, MAX_CONCURRENT, MAX_REQUESTS
from service.api.openapi.bodies import AcceptedCall, AssistantAnswer, BatchProgress, BatchResult, FinishedBatch
from service.api.openapi.examples import A_BATCH_ID, A_CALL_ID, A_CALL_REQUEST
from service.api.openapi.operation import Operation, Parameter, json_of, ok
from service.calls.call_request import CallRequest
from service.jobs.dialer import Method, PlacedCall

PLACING: Final = "placing"


class PlacingRequest(CallRequest, kw_only=True, frozen=True, rename="camel"):
    """A call request, and the way to place it. Other fields are ignored; texts are stripped."""

    method: Annotated[Method | None, Meta(description="Through Kestra by default with `KESTRA_ENABLED`")] = None


class BatchRequest(Struct, kw_only=True):
    """A wrong call request fails alone: its result says why, and the others are placed."""

    requests: Annotated[list[PlacingRequest], Meta(min_length=1, max_length=MAX_REQUESTS)]
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENT)] | UnsetType | None,
        Meta(description=f"How many are placed at a time; {DEFAULT_CONCURRENT} by default"),
    ] = UNSET
    method: Annotated[Method | UnsetType | None, Meta(description="For the requests that name none")] = UNSET


_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    type=Annotated[str, Meta(pattern="^[\\x21-\\x7e]{1,255}$")],
    description="For 24 hours the same key and body give the first answer again, and nobody is phoned twice. Without a "
    "key every request is a call",
    example="order-42",
)

_TOO_LARGE: Final = "The body is larger than 64 KiB"
_WRONG: Final = "The body or a header is wrong; `details` lists all that is"

_PLACED: Final = PlacedCall(A_CALL_ID, "queued", "vapi")
_STARTED: Final = PlacedCall(None, "queued", "kestra", "6wuYgq2bE4JzDkfWlZ1Xa9")
_RESULTS: Final = [BatchResult(True, data=_PLACED), BatchResult(False, error="VAPI refused the call: invalid number")]

PLACE_CALL: Final = Operation(
    id="placeCall",
    tag=PLACING,
    summary="place a call: a call request, and a method",
    description="The phone rings. VAPI is asked once and never again after the request was written. The record exists "
    "when this answers.",
    parameters=(_KEY,),
    body=json_of(PlacingRequest, vapi={**A_CALL_REQUEST, "method": "vapi"}, default=A_CALL_REQUEST),
    answers=(
        ok(
            "VAPI or Kestra has taken it",
            AcceptedCall,
            status=202,
            vapi=AcceptedCall(True, _PLACED),
            kestra=AcceptedCall(True, _STARTED),
        ),
    ),
    failures={
        400: f"{_WRONG}. Also: the number may not be dialled (`CALL_ALLOWED_PREFIXES`), or VAPI refused the call",
        402: "VAPI's account has to be paid first",
        409: "The first request with this key still runs, or nobody knows its outcome",
        413: _TOO_LARGE,
        422: "The key was used with another body",
        429: "VAPI takes no more calls now; or too many requests without a valid token",
        501: "A variable that this way of placing needs is not set; the sentence names it",
        502: "VAPI or Kestra is in trouble or does not answer. Nobody may know whether the phone rang: no `Retry-After`",
        503: "Redis did not answer in time, and nobody was phoned; or too many requests at once",
    },
)

PLACE_BATCH: Final = Operation(
    id="placeBatch",
    tag=PLACING,
    summary=f"place up to {MAX_REQUESTS} calls",
    description="Answers when all have a result, or after 20 seconds with those so far. The batch goes on when its caller "
    "goes away. The same `Idempotency-Key` and body give the same batch.",
    parameters=(_KEY,),
    body=json_of(BatchRequest, two={"requests": [A_CALL_REQUEST, A_CALL_REQUEST], "max_concurrent": 2}),
    answers=(
        ok("All have a result", FinishedBatch, done=FinishedBatch(True, _RESULTS)),
        ok(
            "Not all have a result yet: ask `/calls/batch/{batch_id}`, or repeat the request with its key",
            BatchProgress,
            status=202,
            half=BatchProgress(True, A_BATCH_ID, 1, 2, [_RESULTS[0], None]),
        ),
    ),
    failures={
        400: _WRONG,
        413: "The body is larger than 1 MiB",
        422: "The key was used with another body",
        503: "Redis did not answer in time; or the service stops, and the batch was not begun",
    },
)

GET_BATCH: Final = Operation(
    id="getBatch",
    tag=PLACING,
    summary="how far a batch is, for 24 hours",
    parameters=(
        Parameter(
            name="batch_id",
            place="path",
            type=Annotated[str, Meta(pattern="^[0-9a-f]{32}$")],
            description="As the 202 gave it",
            example=A_BATCH_ID,
        ),
    ),
    answers=(ok("How far it is", BatchProgress, half=BatchProgress(True, A_BATCH_ID, 1, 2, [_RESULTS[0], None])),),
    failures={404: "There is no such batch; it is kept for 24 hours"},
)

MAKE_ASSISTANT: Final = Operation(
    id="makeAssistantConfig",
    tag=PLACING,
    summary="the VAPI assistant for a call request",
    description="For callers that place calls themselves. It holds the webhook secret.",
    body=json_of(CallRequest, request=A_CALL_REQUEST),
    answers=(
        ok(
            "The assistant",
            AssistantAnswer,
            shortened=AssistantAnswer(True, {"name": "Provider call", "serverMessages": ["end-of-call-report"]}),
        ),
    ),
    failures={400: _WRONG, 413: _TOO_LARGE},
)
