"""OpenAPI: the streams of server-sent events."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from service.api.openapi.calls import CALLS, INVALID_ID, THE_CALL
from service.api.openapi.examples import A_CALL_ID, AN_ETAG
from service.api.openapi.operation import Body, DescribedAnswer, Header, Operation, Parameter
from service.api.poll_request import SECONDS
from service.calls.record import View

_UNBUFFERED: Final = Header(name="X-Accel-Buffering", description="Makes nginx pass on every event", example="no")
_FULL: Final = "10,000 streams of this process are open"


def _stream(example: str) -> DescribedAnswer:
    """OpenAPI 3.1 has no schema for the single event, so an example shows them."""
    body = Body(types=(bytes,), examples={}, media_type="text/event-stream")
    description = f"The stream:\n\n```\n{example.strip()}\n```"
    return DescribedAnswer(status=200, description=description, bodies=(body,), headers=(_UNBUFFERED,))


def _last_event_id(description: str, example: str) -> Parameter:
    return Parameter(name="Last-Event-ID", place="header", type=str, description=description, example=example)


_LONGEST: Final = Parameter(
    name="wait",
    place="query",
    type=Annotated[str, Meta(pattern=f"^(?:{SECONDS.pattern})$")],
    description="Longest time until the stream ends, in seconds; an hour by default and at most",
    example="300",
)

FOLLOW_CALL: Final = Operation(
    id="followCall",
    tag=CALLS,
    summary="a call's changes as server-sent events, until its record is final",
    description="`event: call` comes at first and at each change, with what a poll's 202 has, and with the whole record "
    "when it is final; then the stream ends. `event: gone`: the call was deleted, or VAPI does not know it. A call that "
    "nobody has heard of is waited for. The stream also ends after an hour, and when the replica stops: come back with "
    "`Last-Event-ID`. A comment comes every 15 s.",
    parameters=(
        THE_CALL,
        Parameter(
            name="view",
            place="query",
            type=View,
            description="Of the final record: `summary` leaves out `messages` and `transcript`; `full` is the default",
            example="summary",
        ),
        _LONGEST,
        _last_event_id("The id of the last event; what is still so is not sent again", AN_ETAG),
    ),
    answers=(
        _stream(
            f'retry: 1000\n\nevent: call\nid: {AN_ETAG}\ndata: {{"call_id":"{A_CALL_ID}","status":"in-progress",'
            '"data_status":"pending","updated_at":"2026-09-01T12:00:50.000Z"}\n\n',
        ),
        DescribedAnswer(status=204, description="Nothing will come after `Last-Event-ID`"),
    ),
    failures={400: INVALID_ID, 503: f"Redis did not answer in time, or {_FULL}"},
)

FOLLOW_ALL: Final = Operation(
    id="followAllCalls",
    tag=CALLS,
    summary="the changes of all calls as server-sent events",
    description="`event: call` comes at each change of any call, without its phone number, and `event: gone` when one is "
    "deleted. It is a view of now, not a log: a reader that is slow or was away gets the latest of each call, and "
    "`event: gap` where it may have missed some. With an admin's token, or while no credentials are set, `event: stats` "
    "comes every 5 s with the body of the stats. A comment comes every 15 s. The stream ends after an hour, and when the "
    "replica stops.",
    parameters=(_LONGEST, _last_event_id("The id of the last event", "3f9c1a0b7d2e-41")),
    answers=(
        _stream(
            "retry: 1000\n\nid: 3f9c1a0b7d2e-41\n\nevent: call\nid: 3f9c1a0b7d2e-42\n"
            f'data: {{"call_id":"{A_CALL_ID}","status":"ended","data_status":"complete","outcome":"completed",'
            '"updated_at":"2026-09-01T12:05:00.000Z"}\n\n',
        ),
    ),
    failures={400: "`wait` is wrong", 503: _FULL},
)
