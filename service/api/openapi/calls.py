"""OpenAPI: the calls' records, their recordings, and who is told when a record is final."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from service.api.calls import MAX_LIMIT, MAX_OFFSET
from service.api.openapi.bodies import AwaitedCall, CallPage, DeletedCall, Done, FoundCall, Pagination
from service.api.openapi.examples import A_CALL_ID, A_PHONE, AN_ETAG, a_record, a_summary
from service.api.openapi.operation import Body, DescribedAnswer, Header, Operation, Parameter, ok
from service.api.poll_request import SECONDS
from service.callback_url import LONGEST_URL
from service.calls.call_id import CALL_ID
from service.calls.call_record import PendingCall
from service.calls.phone import MAX_PHONE_LENGTH
from service.calls.record import View

CALLS: Final = "calls"

THE_CALL: Final = Parameter(
    name="call_id",
    place="path",
    type=Annotated[str, Meta(pattern=f"^{CALL_ID.pattern}$")],
    description="VAPI's id of the call",
    example=A_CALL_ID,
)

INVALID_ID: Final = "The call id is not one, or the request is malformed"
NO_RECORD: Final = "There is no record, nor a row in the archive: none came, it expired, or it was deleted"


def _query(name: str, type_: Any, description: str, example: Any) -> Parameter:
    return Parameter(name=name, place="query", type=type_, description=description, example=example)


def _header(name: str, description: str, example: str) -> Parameter:
    return Parameter(name=name, place="header", type=str, description=description, example=example)


_ETAG: Final = Header(
    name="ETag", description="Differs between views, versions, and records of one id after expiry", example=AN_ETAG
)
_APPLIED: Final = Header(
    name="Preference-Applied",
    description="The seconds that `Prefer: wait` was taken for",
    example="wait=25",
    is_required=False,
)
_AGAIN: Final = Header(name="Retry-After", description="Seconds after which to ask again", example="1")
_ETAG_IF_KNOWN: Final = Header(
    name="ETag", description="Absent when nobody has heard of the call yet", example=AN_ETAG, is_required=False
)

GET_CALL: Final = Operation(
    id="getCall",
    tag=CALLS,
    summary="a call's record; ?wait=S waits until it is final",
    description="Without `wait`: the record as it stands, or 404. With `wait` or `Prefer: wait`: 200 as soon as the "
    "record is final, else 202 at the deadline, also for a call that nobody has heard of yet. Ask again on 202. A 404 "
    "then means that the call was deleted, or that VAPI does not know it. With `DATABASE_URL`, a call whose record has "
    "expired is answered from the archive; while that is away, 503 without `wait` and 202 with it.",
    parameters=(
        THE_CALL,
        _query(
            "wait",
            Annotated[str, Meta(pattern=f"^(?:{SECONDS.pattern})$")],
            "Longest time to wait: seconds, fractions allowed, no exponent. More than `MAX_WAIT_S` (25) counts as that",
            "25",
        ),
        _query("view", View, "`summary` leaves out `messages` and `transcript`; `full` is the default", "summary"),
        _header("Prefer", "`wait=S`, as the query's; ignored where that is given, or when malformed", "wait=25"),
        _header("If-None-Match", "Entity tags that the caller has; 304 when the record is unchanged", AN_ETAG),
    ),
    answers=(
        ok(
            "The record; with `wait`, a final one",
            FoundCall,
            _ETAG,
            _APPLIED,
            complete=FoundCall(True, a_record()),
            summary=FoundCall(True, a_summary()),
        ),
        ok(
            "With `wait`: the record is not final yet",
            AwaitedCall,
            _AGAIN,
            _ETAG_IF_KNOWN,
            _APPLIED,
            status=202,
            running=AwaitedCall(True, PendingCall(A_CALL_ID, "in-progress", "pending", "2026-09-01T12:00:50.000Z")),
            unknown=AwaitedCall(True, PendingCall(A_CALL_ID, None, "pending", None)),
        ),
        DescribedAnswer(status=304, description="Unchanged since `If-None-Match`", headers=(_ETAG, _APPLIED)),
    ),
    failures={400: "The call id, `wait` or `view` is wrong", 404: NO_RECORD},
)

DELETE_CALL: Final = Operation(
    id="deleteCall",
    tag=CALLS,
    summary="remove a call's record, and its row in the archive",
    description="Later messages of that call are ignored, also after a 404, for `RESULT_TTL_S` after each.",
    parameters=(THE_CALL,),
    answers=(ok("Removed", DeletedCall, removed=DeletedCall(True, "Call result deleted", A_CALL_ID)),),
    failures={400: INVALID_ID, 404: NO_RECORD},
)

LIST_BY_PHONE: Final = Operation(
    id="listCallsByPhone",
    tag=CALLS,
    summary="the calls of a phone number",
    description="The live calls and those of the archive, by `updated_at`, newest first. A page costs offset + limit.",
    parameters=(
        Parameter(
            name="phone",
            place="path",
            type=Annotated[str, Meta(min_length=1, max_length=MAX_PHONE_LENGTH)],
            description="Spaces, brackets and hyphens do not count; `+` may be written `%2B`",
            example=A_PHONE,
        ),
        _query("limit", Annotated[int, Meta(ge=1, le=MAX_LIMIT)], "Most calls of the page; 10 by default", 10),
        _query("offset", Annotated[int, Meta(ge=0, le=MAX_OFFSET)], "Calls to pass over; 0 by default", 0),
    ),
    answers=(ok("The page", CallPage, one=CallPage(True, [a_summary()], 1, Pagination(10, 0, False))),),
    failures={
        400: "The number is too long, or `limit` or `offset` is out of bounds",
        503: "Redis did not answer in time, or too many pages are read at once",
    },
)

GET_RECORDING: Final = Operation(
    id="getRecording",
    tag=CALLS,
    summary="302 to a fresh link to a call's recording",
    description="The link is asked of VAPI at each request, and anybody who has it may use it for about half an hour. "
    "A page cannot follow it to another host: open it in a tab of its own.",
    parameters=(THE_CALL,),
    answers=(
        DescribedAnswer(
            status=302,
            description="Where the recording is",
            headers=(
                Header(
                    name="Location", description="The link", example="https://storage.example/recording.wav?token=1"
                ),
                Header(name="Referrer-Policy", description="The link is a secret", example="no-referrer"),
            ),
        ),
    ),
    failures={
        400: "The call id is not one, or VAPI refused the question",
        402: "VAPI's account has to be paid first",
        404: "This call has no recording",
        429: "VAPI, or this service for requests without a valid token, is asked too often",
        501: "`VAPI_API_KEY` is not set",
        502: "VAPI is in trouble or does not answer",
    },
)


class Resume(Struct):
    """Other fields are ignored."""

    kind: Literal["kestra_resume"]
    execution_id: Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,64}$", description="Of the paused Kestra execution")]


class Callback(Struct):
    """Other fields are ignored."""

    kind: Literal["callback"]
    url: Annotated[
        str,
        Meta(max_length=LONGEST_URL, description="Below one of `CALLBACK_ALLOWED_PREFIXES`; gets `finishedCall`"),
    ]


SUBSCRIBE: Final = Operation(
    id="subscribe",
    tag=CALLS,
    summary="resume a Kestra execution, or send the record to a callback, when it is final",
    description="At once where it is final already. Repeating it changes nothing. It lives as long as the record, or an "
    "hour where there is none yet.",
    parameters=(THE_CALL,),
    body=Body(
        types=(Resume, Callback),
        examples={
            "resume": Resume("kestra_resume", "6wuYgq2bE4JzDkfWlZ1Xa9"),
            "callback": Callback("callback", "https://hooks.example.com/calls/finished?key=7d1a"),
        },
    ),
    answers=(ok("It is kept", Done, status=202, kept=Done(True)),),
    has_callback=True,
    failures={
        400: "The call id or the body is wrong; `details` says where",
        413: "The body is larger than 64 KiB",
        429: "100 subscriptions of this call, or `MAX_SUBSCRIPTIONS` in all; or too many requests without a valid token",
        501: "`KESTRA_URL` or `CALLBACK_ALLOWED_PREFIXES` is not set",
        503: "Redis did not answer in time, or has less than a tenth of its memory free",
    },
)
