"""The state of an execution as Kestra reports it, and the outcomes of a request to resume one."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

TERMINAL_STATES: Final = frozenset(
    ("SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED", "RESUBMITTED")
)
"""States that Kestra may add later count as not terminal, so waiters keep waiting up to their own limit.

https://github.com/kestra-io/client-sdk/blob/main/python/python-sdk/docs/StateType.md
"""

PAUSED: Final = "PAUSED"


class Resumption(enum.Enum):
    """The outcome of a request to resume an execution."""

    RESUMED = "resumed"
    ALREADY_RESUMED = "already resumed"
    """The execution was paused and no longer is, or it has ended."""
    NOT_PAUSED_YET = "not paused yet"
    """Worth another try a little later: ``Pause`` subscribes with us before Kestra stores its state."""
    UNKNOWN_EXECUTION = "unknown execution"


class Past(msgspec.Struct, frozen=True):
    state: str
    date: Any = None
    """When the execution entered the state, as ISO 8601 text. Any other value counts as unknown."""


class ExecutionState(msgspec.Struct, frozen=True):
    current: str
    histories: tuple[Past, ...] | None = None


class TaskRun(msgspec.Struct, frozen=True):
    id: str = ""
    state: ExecutionState | None = None


class ExecutionAnswer(msgspec.Struct, frozen=True):
    """The fields that we read from an execution in Kestra's answers."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    state: ExecutionState | None = None
    taskRunList: tuple[TaskRun, ...] | None = None  # noqa: N815 - Kestra's spelling


class Pause(msgspec.Struct, frozen=True):
    """One of the times that an execution was paused."""

    number: int
    """Its position among the execution's pauses, from 1."""
    task_run_id: str = ""
    """The run of the pausing task; empty for a pause that has ended, or when Kestra does not show it."""
    ended_at_ms: int | None = None
    """Epoch milliseconds by Kestra's clock; None while the pause lasts, or when Kestra does not give it."""

    def is_same_as(self, other: Pause) -> bool:
        if self.task_run_id and other.task_run_id:
            return self.task_run_id == other.task_run_id
        return self.number == other.number


class Execution(msgspec.Struct, frozen=True):
    """One run of a flow, as it was when Kestra answered."""

    id: str
    state: str
    """Empty when Kestra does not give it."""
    pauses: tuple[Pause, ...] = ()
    """Oldest first; the last is the current pause if the execution is paused."""

    @property
    def is_terminal(self) -> bool:
        """True when the execution will never run again by itself."""
        return self.state in TERMINAL_STATES

    @property
    def current_pause(self) -> Pause | None:
        return self.pauses[-1] if self.state == PAUSED else None

    def find_pause_to_resume(self, *, subscribed_at_ms: int, seen: Pause | None) -> Pause | Resumption:
        """The current pause if it is the subscribed one, otherwise why there is nothing to resume.

        The subscribed pause is the one that an earlier try has ``seen``. Without it, it is the first pause that had not
        ended at the time of the subscription: a flow subscribes in its pause, or just before it.

        Args:
            subscribed_at_ms: by Redis's clock, which should be within a second of Kestra's; 0 when unknown.
            seen: the pause that an earlier try saw; None if there was no try, or it saw no pause.
        """
        if self.is_terminal:
            return Resumption.ALREADY_RESUMED
        if seen is None:
            over = self.pauses if self.current_pause is None else self.pauses[:-1]
            if any(pause.ended_at_ms is not None and 0 < subscribed_at_ms < pause.ended_at_ms for pause in over):
                return Resumption.ALREADY_RESUMED
            if self.current_pause is not None:
                return self.current_pause
            is_known_to_come = subscribed_at_ms and all(pause.ended_at_ms is not None for pause in over)
            return Resumption.NOT_PAUSED_YET if is_known_to_come or not over else Resumption.ALREADY_RESUMED
        if self.current_pause is not None and seen.is_same_as(self.current_pause):
            return self.current_pause
        return Resumption.ALREADY_RESUMED


def execution_of(answer: ExecutionAnswer) -> Execution:
    state = answer.state or ExecutionState("")
    histories = list(state.histories or ())
    if not histories or histories[-1].state != state.current:
        histories.append(Past(state.current))
    pauses: list[Pause] = []
    for before, past in zip([None, *histories], histories, strict=False):
        if past.state == PAUSED and (before is None or before.state != PAUSED):
            pauses.append(Pause(len(pauses) + 1, _paused_task_run(answer)))
        elif before is not None and before.state == PAUSED:
            pauses[-1] = Pause(len(pauses), ended_at_ms=_epoch_ms(past.date))
    return Execution(answer.id, state.current, tuple(pauses))


def _paused_task_run(answer: ExecutionAnswer) -> str:
    """The id of the first paused task run. When several are paused in parallel, Kestra resumes the first."""
    runs = answer.taskRunList or ()
    return next((run.id for run in runs if run.state is not None and run.state.current == PAUSED), "")


def _epoch_ms(date: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(date).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None
