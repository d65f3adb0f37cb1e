"""Which pause of an execution a subscription is for, by what Kestra shows of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from service.kestra.execution import ExecutionAnswer, Pause, Resumption, execution_of

ALREADY, NOT_YET = Resumption.ALREADY_RESUMED, Resumption.NOT_PAUSED_YET

SECOND_MS = 1000
START_MS = 1_788_264_000_000


def answer(*states: str, task_runs: list[dict[str, Any]] | None = None, has_dates: bool = True) -> ExecutionAnswer:
    """An execution that came into these states a second apart, the first at START_MS."""
    histories = [
        {"state": state, **({"date": f"2026-09-01T12:00:{second:02}.000000001Z"} if has_dates else {})}
        for second, state in enumerate(states)
    ]
    content = {"id": "e", "state": {"current": states[-1], "histories": histories}, "taskRunList": task_runs}
    return msgspec.convert(content, ExecutionAnswer)


RUNS = ("CREATED", "RUNNING")
PAUSED = (*RUNS, "PAUSED")
RESUMED = (*PAUSED, "RESTARTED", "RUNNING")
PAUSED_AGAIN = (*RESUMED, "PAUSED")


@pytest.mark.parametrize(
    ("states", "subscribed_after_s", "seen", "expected"),
    [
        (RUNS, 0, None, NOT_YET),
        (PAUSED, 1, None, 1),
        (PAUSED, 2, None, 1),
        (RESUMED, 1, None, ALREADY),
        (RESUMED, 2, None, ALREADY),
        (RESUMED, 4, None, NOT_YET),
        (RESUMED, 4, Pause(1), ALREADY),
        (PAUSED_AGAIN, 1, None, ALREADY),
        (PAUSED_AGAIN, 2, None, ALREADY),
        (PAUSED_AGAIN, 4, None, 2),
        (PAUSED_AGAIN, 5, None, 2),
        (PAUSED_AGAIN, 4, Pause(1), ALREADY),
        (PAUSED_AGAIN, 4, Pause(2), 2),
        ((*PAUSED, "KILLED"), 4, None, ALREADY),
        ((*RUNS, "FAILED"), 0, None, ALREADY),
        # When it was subscribed is not known.
        (PAUSED_AGAIN, None, None, 2),
        (RESUMED, None, None, ALREADY),
    ],
)
def test_a_subscription_is_for_the_first_pause_that_was_not_over_then(
    states: tuple[str, ...], subscribed_after_s: int | None, seen: Pause | None, expected: Resumption | int
) -> None:
    subscribed_at_ms = 0 if subscribed_after_s is None else START_MS + subscribed_after_s * SECOND_MS
    found = execution_of(answer(*states)).find_pause_to_resume(subscribed_at_ms=subscribed_at_ms, seen=seen)

    assert (found.number if isinstance(found, Pause) else found) == expected


def test_without_dates_the_present_pause_is_meant() -> None:
    for states, expected in ((PAUSED_AGAIN, Pause(2)), (RESUMED, ALREADY), (RUNS, NOT_YET)):
        execution = execution_of(answer(*states, has_dates=False))
        assert execution.find_pause_to_resume(subscribed_at_ms=START_MS, seen=None) == expected


def test_the_task_run_decides_where_kestra_shows_it() -> None:
    runs: list[dict[str, Any]] = [
        {"id": "first", "state": {"current": "SUCCESS"}},
        {"id": "second", "state": {"current": "PAUSED"}},
        {"id": "third", "state": {"current": "PAUSED"}},
        {"odd": 1},
    ]
    execution = execution_of(answer(*PAUSED_AGAIN, task_runs=runs))
    for seen, expected in (
        (Pause(1, "second"), Pause(2, "second")),
        (Pause(2, "first"), ALREADY),
        (Pause(2, "third"), ALREADY),  # Kestra would resume the second
        (Pause(2), Pause(2, "second")),
        (Pause(1), ALREADY),
    ):
        assert execution.find_pause_to_resume(subscribed_at_ms=0, seen=seen) == expected


def test_a_state_that_is_not_in_its_histories_counts() -> None:
    content = {"id": "e", "state": {"current": "PAUSED"}}
    assert execution_of(msgspec.convert(content, ExecutionAnswer)).current_pause == Pause(1)
