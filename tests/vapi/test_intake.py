"""From a message to its change: whose call it is, how much it weighs, and what it says of the status."""

from __future__ import annotations

from typing import Any

import pytest

from service.calls.call_id import is_call_id
from service.calls.status import ENDED, Ending, Rank
from service.errors import InvalidMessageError
from tests.support.call_record import change_by, facts_of, intake_of
from tests.support.for_each import for_each
from tests.support.vapi_sender import full_report, message, preliminary_report, sample, status_update

STATUSES = ["scheduled", "queued", "ringing", "in-progress", "forwarding", "ended"]
TYPES_OF_THE_END = ["status-update", "end-of-call-report"]

GOOD_IDS = ["a", "0", "_", "-", "A.b_c-D", "01a0b1c2-d3e4-7000-8abc-0123456789ab", "x" * 128, "a..", "-."]
BAD_IDS: list[object] = [
    *("", ".", "..", ".a", "a b", " a", "a\n", "a/b", "a%2fb", "a:b", "a{b}", "x" * 129, "é", "\u0661", "a\u0000"),
    *(None, [], ["a"], {}, {"id": "a"}),
]


@for_each("call_id", GOOD_IDS)
@for_each("type_", ["hang", *TYPES_OF_THE_END])
def test_a_usable_call_id_is_taken_as_it_is(type_: str, call_id: str) -> None:
    assert change_by(message(type_, call_id)).call_id == call_id.encode()


@for_each("call_id", BAD_IDS)
def test_a_message_without_a_usable_call_id_has_nothing_to_store(call_id: object) -> None:
    assert intake_of(message("hang", None, call={"id": call_id})).change is None


@for_each("call", [None, {}, {"id": None}, "call-1", [], 5, *({"id": bad} for bad in BAD_IDS[:15])])
@for_each("type_", TYPES_OF_THE_END)
def test_the_end_of_a_call_without_a_usable_id_is_refused_and_the_path_is_told(type_: str, call: object) -> None:
    with pytest.raises(InvalidMessageError, match=r"^Invalid webhook payload$") as refused:
        intake_of(message(type_, None, call=call))
    assert [detail.path for detail in refused.value.details] == ["$.message.call.id"]


def test_a_message_without_a_call_has_nothing_to_store() -> None:
    assert intake_of(sample("session.created-no-call")).change is None


def test_a_number_as_a_call_id_is_salvaged() -> None:
    assert change_by(message("hang", None, call={"id": 12345})).call_id == b"12345"


@for_each("text", GOOD_IDS)
def test_what_is_a_call_id_in_a_path(text: str) -> None:
    assert is_call_id(text)


@for_each("text", [bad for bad in BAD_IDS if isinstance(bad, str)])
def test_what_is_no_call_id_in_a_path(text: str) -> None:
    assert not is_call_id(text)


def weight_of(body: dict[str, Any]) -> tuple[int, int, int]:
    change = change_by(body)
    return change.rank, change.status, change.ending


@pytest.mark.parametrize(("status", "position"), [(status, number) for number, status in enumerate(STATUSES, start=1)])
def test_a_status_update_weighs_as_much_as_its_status(status: str, position: int) -> None:
    ending = Ending.OVER if status == "ended" else Ending.NONE
    assert weight_of(status_update(status)) == (position, position, ending)


@pytest.mark.parametrize("status", ["not-found", "deletion-failed", "Ended", "", "in progress", "ended "])
def test_a_status_that_is_no_stage_of_a_call_gives_none_and_weighs_nothing(status: str) -> None:
    assert weight_of(status_update(status)) == (Rank.OTHER_MESSAGE, 0, Ending.NONE)


@pytest.mark.parametrize("type_", ["hang", "transcript", "speech-update", "a type of 2027"])
def test_any_other_message_weighs_least(type_: str) -> None:
    assert weight_of(message(type_, status="ended", endedReason="hang")) == (0, 0, Ending.NONE)


def test_a_hang_does_not_end_a_call() -> None:
    assert weight_of(sample("hang"))[2] == Ending.NONE


@for_each("type_", ["hang", "speech-update", "transcript"])
@for_each(
    ("snapshot", "position"),
    [("scheduled", 1), ("queued", 2), ("ringing", 3), ("in-progress", 0), ("forwarding", 0), ("ended", 0), (5, 0)],
)
def test_the_calls_snapshot_counts_only_up_to_ringing(type_: str, snapshot: object, position: int) -> None:
    assert weight_of(message(type_, call={"id": "c", "status": snapshot})) == (0, position, Ending.NONE)


@pytest.mark.parametrize(
    ("status", "snapshot", "position"),
    [
        ("scheduled", "ringing", 3),
        ("ringing", "queued", 3),
        ("in-progress", "ringing", 4),
        ("queued", "ended", 2),
        ("in-progress", "forwarding", 4),
        ("not-found", "queued", 2),
        ("not-found", "ended", 0),
    ],
)
def test_the_calls_snapshot_is_a_lower_bound_beside_a_status(status: str, snapshot: str, position: int) -> None:
    change = change_by(status_update(status, call={"id": "c", "status": snapshot}))
    assert (change.status, change.ending) == (position, Ending.NONE)


@for_each(("snapshot", "position"), [(status, number) for number, status in enumerate(STATUSES, 1)])
@for_each("absent", [{}, {"status": None}, {"status": ""}, {"status": []}])
def test_a_status_update_without_a_status_takes_the_snapshot_as_it_is(
    absent: dict[str, Any], snapshot: str, position: int
) -> None:
    body = message("status-update", call={"id": "c", "status": snapshot}, **absent)
    ending = Ending.OVER if snapshot == "ended" else Ending.NONE
    assert weight_of(body) == (position, position, ending)


def test_a_status_update_without_any_status_gives_none() -> None:
    assert weight_of(message("status-update")) == (0, 0, Ending.NONE)


ANALYSIS = Rank.FULL_REPORT_WITH_ANALYSIS
NOTHING: dict[str, Any] = {"analysis": {}, "durationSeconds": None, "cost": None}


@for_each(
    ("fields", "rank"),
    [
        ({}, Rank.PRELIMINARY_REPORT),
        ({"analysis": None}, Rank.PRELIMINARY_REPORT),
        ({"analysis": {"summary": "", "structuredData": {}, "successEvaluation": None}}, Rank.PRELIMINARY_REPORT),
        ({"analysis": {"structuredDataMulti": []}, "summary": ""}, Rank.PRELIMINARY_REPORT),
        ({"analysis": {"unknown": 1}}, Rank.PRELIMINARY_REPORT),
        ({"analysis": "odd", "cost": "free", "durationMs": "long"}, Rank.PRELIMINARY_REPORT),
        ({"transcript": "Hello.", "messages": [1], "recordingUrl": "https://x.example/a"}, Rank.PRELIMINARY_REPORT),
        ({"startedAt": "2026-09-01T12:00:00Z", "endedAt": "2026-09-01T12:01:00Z"}, Rank.PRELIMINARY_REPORT),
        ({"call": {"id": "c", "cost": 0}}, Rank.PRELIMINARY_REPORT),
        ({"cost": 0}, Rank.PRELIMINARY_REPORT),
        ({"cost": 0, "costBreakdown": {"total": 0.01}}, Rank.FULL_REPORT),
        ({"durationSeconds": 0.2}, Rank.FULL_REPORT),
        ({"cost": "0.12"}, Rank.FULL_REPORT),
        ({"durationSeconds": 0}, Rank.PRELIMINARY_REPORT),
        ({"durationMs": 5}, Rank.FULL_REPORT),
        ({"durationMinutes": "0.5"}, Rank.FULL_REPORT),
        ({"call": {"id": "c", "cost": 0.12}}, Rank.FULL_REPORT),
        ({"call": {"id": "c", "durationSeconds": 5}}, Rank.FULL_REPORT),
        ({"analysis": {"summary": "They spoke."}}, ANALYSIS),
        ({"analysis": {"structuredData": {"a": None}}}, ANALYSIS),
        ({"analysis": {"structuredData": False}}, ANALYSIS),
        ({"analysis": {"structuredDataMulti": [{"key": {}}]}}, ANALYSIS),
        ({"analysis": {"successEvaluation": False}}, ANALYSIS),
        ({"analysis": {"successEvaluation": 0}}, ANALYSIS),
        ({"analysis": {"summary": {"text": "They spoke."}}}, ANALYSIS),
        ({"analysis": {"successEvaluation": ["true"]}}, ANALYSIS),
        ({"summary": "They spoke."}, ANALYSIS),
        ({"call": {"id": "c", "analysis": {"summary": "They spoke."}}}, ANALYSIS),
        ({"call": {"id": "c", "summary": "They spoke."}}, ANALYSIS),
    ],
)
def test_a_report_is_preliminary_without_analysis_duration_and_cost(fields: dict[str, Any], rank: Rank) -> None:
    ending = Ending.PRELIMINARY_REPORT if rank == Rank.PRELIMINARY_REPORT else Ending.FULL_REPORT
    assert weight_of(preliminary_report(**fields)) == (rank, ENDED, ending)


def test_reports_outweigh_statuses_and_statuses_other_messages() -> None:
    bodies = [
        message("hang"),
        *map(status_update, STATUSES),
        preliminary_report(),
        preliminary_report(cost=1),
        full_report(),
    ]
    assert [change_by(body).rank for body in bodies] == list(range(10))


@pytest.mark.parametrize(
    ("at", "stamp"),
    [
        (1788264045260, b"60001788264045260"),
        ("2026-09-01T12:00:45.260Z", b"60001788264045260"),
        (None, b"6" + b"0" * 16),
    ],
)
def test_the_stamp_is_the_rank_then_the_messages_own_time(at: object, stamp: bytes) -> None:
    assert change_by(status_update("ended", at_ms=None, timestamp=at)).stamp == stamp


@for_each("reason", ["voicemail", "customer-busy", "customer-did-not-answer", "manually-canceled"])
@for_each("type_", TYPES_OF_THE_END)
def test_a_reason_after_which_no_analysis_can_come_is_marked(type_: str, reason: str) -> None:
    assert change_by(message(type_, status="ended", endedReason=reason)).rules_out_analysis


@pytest.mark.parametrize("reason", ["assistant-ended-call", "pipeline-error-x", "brand-new"])
@pytest.mark.parametrize("type_", TYPES_OF_THE_END)
def test_a_reason_after_which_an_analysis_may_come_is_not(type_: str, reason: str) -> None:
    assert not change_by(message(type_, status="ended", endedReason=reason)).rules_out_analysis


@pytest.mark.parametrize("type_", TYPES_OF_THE_END)
def test_the_reason_may_stand_in_the_call_of_a_hand_made_message(type_: str) -> None:
    call = {"id": "c", "endedReason": "voicemail"}
    assert facts_of(message(type_, status="ended", call=call))["ended_reason"] == "voicemail"
    stated = message(type_, status="ended", call=call, endedReason="assistant-error")
    assert facts_of(stated)["ended_reason"] == "assistant-error"


@pytest.mark.parametrize("type_", ["hang", "transcript"])
def test_only_status_updates_and_reports_give_a_reason(type_: str) -> None:
    assert "ended_reason" not in facts_of(message(type_, endedReason="voicemail"))


@pytest.mark.parametrize("type_", ["status-update", "transcript", "hang", "conversation-update"])
def test_only_reports_give_results(type_: str) -> None:
    body = full_report()
    body["message"] |= {"type": type_, "status": "forwarding", "summary": "x", "transcript": "y"}
    assert set(facts_of(body)) - {"ended_reason"} == {"customer_phone"}
