"""What a report says of the finished call: both shapes, which place counts, times, durations, costs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.call_record import facts_of, intake_of, record_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import message

REPORT = "end-of-call-report"


def report(**fields: Any) -> dict[str, Any]:
    return message(REPORT, **fields)


HAND_MADE = message(
    REPORT,
    call={
        "id": "call-1",
        "status": "ended",
        "endedReason": "customer-ended-call",
        "startedAt": "2026-09-01T12:00:00Z",
        "endedAt": "2026-09-01T12:05:00Z",
        "durationSeconds": 300,
        "cost": 0.12,
        "transcript": "AI: Hello.",
        "messages": [{"role": "bot", "message": "Hello."}],
        "recordingUrl": "https://x.example/a.wav",
        "analysis": {"summary": "Good.", "structuredData": {"availability": "available"}, "successEvaluation": "true"},
        "customer": {"number": "+18641234567"},
        "assistantId": "asst-1",
        "phoneNumberId": "phone-1",
    },
)
"""The shape of the original design's curl: everything inside the call."""

FACTS = {
    "ended_reason": "customer-ended-call",
    "started_at": "2026-09-01T12:00:00Z",
    "ended_at": "2026-09-01T12:05:00Z",
    "duration_minutes": 5.0,
    "cost": 0.12,
    "customer_spoke": False,
    "transcript": "AI: Hello.",
    "messages": [{"role": "bot", "message": "Hello."}],
    "recording_url": "https://x.example/a.wav",
    "analysis_summary": "Good.",
    "analysis_structured_data": {"availability": "available"},
    "analysis_success_evaluation": "true",
    "customer_phone": "+18641234567",
    "assistant_id": "asst-1",
    "phone_number_id": "phone-1",
}

CONTEXT = ("id", "status", "assistantId", "phoneNumberId")


def real_shape() -> dict[str, Any]:
    """The same report as VAPI sends it: results in the message, its artifact and its analysis."""
    results = copy.deepcopy(HAND_MADE["message"]["call"])
    call = {name: results.pop(name) for name in CONTEXT}
    artifact = {name: results.pop(name) for name in ("transcript", "messages", "recordingUrl")}
    return report(call=call | {"cost": 0, "status": "queued"}, artifact=artifact, **results)


@pytest.mark.parametrize("body", [HAND_MADE, real_shape()], ids=["hand-made", "real"])
def test_both_shapes_give_the_same_facts(body: dict[str, Any]) -> None:
    assert facts_of(body) == FACTS


def test_both_shapes_give_the_same_record() -> None:
    assert record_of(HAND_MADE) == record_of(real_shape())


def put(body: dict[str, Any], path: str, value: object) -> None:
    *owners, name = path.split(".")
    target = body["message"]
    for owner in owners:
        target = target.setdefault(owner, {})
    target[name] = value


ANALYSES = ("analysis.", "", "call.analysis.", "call.")
ORDERS = [
    ("transcript", ["artifact.transcript", "transcript", "call.artifact.transcript", "call.transcript"]),
    ("analysis_summary", ["analysis.summary", "summary", "call.analysis.summary", "call.summary"]),
    ("analysis_success_evaluation", [f"{place}successEvaluation" for place in ANALYSES]),
    ("analysis_structured_data", [f"{place}structuredData" for place in ANALYSES]),
    ("ended_reason", ["endedReason", "call.endedReason"]),
]
ARRAYS = ["artifact.messages", "messages", "call.artifact.messages", "call.messages"]


@for_each(("fact", "places"), ORDERS)
@for_each("empty", [None, "", [], {}])
def test_the_first_place_that_is_not_empty_counts(fact: str, places: list[str], empty: object) -> None:
    for first in range(len(places)):
        body = report()
        for number, place in enumerate(places):
            put(body, place, empty if number < first else place)
        assert facts_of(body)[fact] == places[first]


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_the_first_messages_that_are_not_empty_count(empty: object) -> None:
    for first in range(len(ARRAYS)):
        body = report()
        for number, place in enumerate(ARRAYS):
            put(body, place, empty if number < first else [place, {"a": None}])
        assert facts_of(body)["messages"] == [ARRAYS[first], {"a": None}]


@for_each("place", ["analysis.structuredData", "call.analysis.structuredData"])
@for_each("value", [{"a": None}, [{"a": 1}], "text", 0, False, 7.5, True])
def test_structured_data_may_be_any_json(place: str, value: object) -> None:
    body = report()
    put(body, place, value)
    assert facts_of(body)["analysis_structured_data"] == value


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (7, "7"), (0, "0"), ("Good", "Good")])
def test_a_success_evaluation_is_text_whatever_it_was(value: object, text: str) -> None:
    assert facts_of(report(analysis={"successEvaluation": value}))["analysis_success_evaluation"] == text


DURATIONS: list[tuple[dict[str, Any], float | None]] = [
    ({"durationSeconds": 26.26}, 0.44),
    ({"durationMs": 26260}, 0.44),
    ({"durationMinutes": 0.4377}, 0.44),
    ({"durationSeconds": 300, "durationMs": 1, "durationMinutes": 1}, 5.0),
    ({"durationMs": 600_000, "durationMinutes": 1}, 10.0),
    ({"durationSeconds": None, "durationMs": "", "durationMinutes": 3}, 3.0),
    ({"durationSeconds": "ages", "durationMs": 60_000}, 1.0),
    ({"durationSeconds": "90"}, 1.5),
    ({"durationSeconds": 0}, 0.0),
    ({"durationSeconds": 0.2}, 0.0),
    ({"durationSeconds": 43_200}, 720.0),
    ({"call": {"id": "c", "durationSeconds": 300}}, 5.0),
    ({"durationMs": 60_000, "call": {"id": "c", "durationSeconds": 300}}, 1.0),
    ({}, None),
]


@for_each(("fields", "minutes"), DURATIONS)
def test_a_duration_is_in_minutes_with_two_decimals(fields: dict[str, Any], minutes: float | None) -> None:
    assert facts_of(report(**fields)).get("duration_minutes") == minutes
    assert record_of(report(**fields))["duration_minutes"] == minutes


@for_each(
    ("times", "minutes"),
    [
        ({"startedAt": "2026-09-01T12:00:19Z", "endedAt": "2026-09-01T12:00:45.260Z"}, 0.44),
        ({"startedAt": "2026-09-01T12:00:19Z", "endedAt": "2026-09-01T12:00:19Z"}, 0.0),
        ({"startedAt": "2026-09-01T23:59:00Z", "endedAt": "2026-09-02T11:59:00Z"}, 720.0),
        ({"startedAt": "2026-09-01T14:00:00+02:00", "endedAt": 1788264060000}, 1.0),
        ({"startedAt": "2026-09-01T12:00:20Z", "endedAt": "2026-09-01T12:00:19Z"}, None),
        ({"startedAt": "2026-09-01T12:00:20Z"}, None),
        ({"endedAt": "2026-09-01T12:00:20Z"}, None),
        ({"startedAt": "soon", "endedAt": "2026-09-01T12:00:20Z"}, None),
    ],
)
def test_without_a_duration_the_record_takes_the_time_between(times: dict[str, Any], minutes: float | None) -> None:
    record = record_of(report(cost=1, **times))
    assert record["duration_minutes"] == minutes
    assert "duration_minutes" not in facts_of(report(cost=1, **times))


@pytest.mark.parametrize(
    "ended_at",
    [
        "2026-09-01T12:01:00.123456789Z",
        "2026-09-01T12:01:00.9Z",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.9999999Z",
    ],
)
def test_any_time_that_is_kept_can_be_served(ended_at: str) -> None:
    record = record_of(report(startedAt="2026-09-01T12:00:00Z", endedAt=ended_at))
    assert record["ended_at"].startswith(ended_at[:21])
    assert record["duration_minutes"] >= 1


@pytest.mark.parametrize(("name", "fact"), [("startedAt", "started_at"), ("endedAt", "ended_at")])
def test_a_time_in_the_message_outweighs_the_calls(name: str, fact: str) -> None:
    call = {"id": "c", name: "2020-01-01T00:00:00Z"}
    assert facts_of(report(call=call))[fact] == "2020-01-01T00:00:00Z"
    assert facts_of(report(call=call, **{name: "2026-09-01T12:00:00Z"}))[fact] == "2026-09-01T12:00:00Z"


@for_each(
    ("fields", "cost"),
    [
        ({"cost": 0.1187}, 0.1187),
        ({"cost": 0}, 0),
        ({"cost": "0.12"}, 0.12),
        ({"cost": 0, "call": {"id": "c", "cost": 3}}, 0),
        ({"call": {"id": "c", "cost": 0}}, None),
        ({"call": {"id": "c", "cost": 0.0}}, None),
        ({"call": {"id": "c", "cost": "0"}}, None),
        ({"call": {"id": "c", "cost": 0.5}}, 0.5),
        ({"cost": None, "call": {"id": "c", "cost": 0.5}}, 0.5),
        ({"cost": {"total": 1}, "call": {"id": "c", "cost": 0.5}}, 0.5),
        ({"costBreakdown": {"total": 0.03}}, 0.03),
        ({"cost": "free", "costBreakdown": {"total": "0.03"}}, 0.03),
        ({"cost": 0, "costBreakdown": {"total": 0.03}}, 0),
        ({"cost": 0.5, "costBreakdown": [1]}, 0.5),
        ({"call": {"id": "c", "costBreakdown": {"total": 0.03}}}, 0.03),
        ({"cost": True}, None),
        ({}, None),
    ],
)
def test_the_snapshots_cost_of_0_says_nothing(fields: dict[str, Any], cost: float | None) -> None:
    assert record_of(report(**fields))["cost"] == cost


def test_odd_results_leave_the_others_alone() -> None:
    body = report(
        transcript={"text": "x"}, messages="none", startedAt=[], endedAt={"at": 1}, cost="free", summary="Good."
    )
    assert facts_of(body) == {"analysis_summary": "Good."}
    assert intake_of(body).dropped == 4


def test_a_blank_transcript_is_none_and_shows_that_nobody_spoke() -> None:
    for transcript in (" ", "\u00a0\n\u200b", [{"role": "user", "message": " "}]):
        record = record_of(report(artifact={"transcript": transcript}))
        assert (record["transcript"], record["customer_spoke"], record["analysis_reliable"]) == (None, False, None)
    nothings: tuple[Any, ...] = (None, "", [], {}, [{"role": "system", "message": "Prompt."}])
    for nothing in nothings:
        assert record_of(report(artifact={"transcript": nothing}))["customer_spoke"] is None, nothing


def test_the_speakers_names_are_read_from_every_plan() -> None:
    plan = {"artifactPlan": {"transcriptPlan": {"assistantName": "Anna (AI)", "userName": "🙂"}}}
    places: list[dict[str, Any]] = [
        {"assistant": plan},
        {"call": {"id": "c", "assistant": plan}},
        {"call": {"id": "c", "assistantOverrides": plan}},
        {"call": {"id": "c", **plan}},
    ]
    for place in places:
        for answer, spoke in (("Anna (AI): Hello?", False), ("🙂: Yes.", True)):
            assert record_of(report(transcript=f"Anna (AI): Hi.\n{answer}", **place))["customer_spoke"] is spoke, place
