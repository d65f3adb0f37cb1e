"""What Kestra says about an execution, and about a request to resume one."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

TERMINAL_STATES: Final = frozenset(
    ("SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED", "RESUBMITTED")
)
"""A state that Kestra may add later counts as not terminal: whoever waits then waits on, up to its own limit.

https://github.com/kestra-io/client-sdk/blob/main/python/python-sdk/docs/StateType.md
"""

PAUSED: Final = "PAUSED"


class Resumption(enum.Enum):
    """What became of a request to resume an execution."""

    RESUMED = "resumed"
    ALREADY_RESUMED = "already resumed"
    """It was paused and is not any more, or it is over."""
    NOT_PAUSED_YET = "not paused yet"
    """It may be worth asking again a little later: ``Pause`` registers with us before its state is stored."""
    UNKNOWN_EXECUTION = "unknown execution"


class Past(msgspec.Struct, frozen=True):
    state: str
    date: Any = None
    """When it came into that state, as ISO 8601 text; whatever else it is counts as unknown."""


class ExecutionState(msgspec.Struct, frozen=True):
    current: str
    histories: tuple[Past, ...] | None = None


class TaskRun(msgspec.Struct, frozen=True):
    id: str = ""
    state: ExecutionState | None = None


class ExecutionAnswer(msgspec.Struct, frozen=True):
    """The part that we read of the execution in Kestra's answers."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    state: ExecutionState | None = None
    taskRunList: tuple[TaskRun, ...] | None = None  # noqa: N815 - Kestra's spelling
    outputs: dict[str, Any] | None = None
    """Never there in 2.x."""


class Pause(msgspec.Struct, frozen=True):
    """One of the times that an execution was paused."""

    number: int
    """Which one, from 1."""
    task_run_id: str = ""
    """Of the task that pauses; empty for a pause that is over, and where Kestra does not show it."""
    ended_at_ms: int | None = None
    """Epoch milliseconds by Kestra's clock; None while it lasts, and where Kestra does not tell it."""

    def is_same_as(self, other: Pause) -> bool:
        if self.task_run_id and other.task_run_id:
            return self.task_run_id == other.task_run_id
        return self.number == other.number


class Execution(msgspec.Struct, frozen=True):
    """One run of a flow, as it was when Kestra answered."""

    id: str
    state: str
    """Empty where Kestra does not tell it."""
    pauses: tuple[Pause, ...] = ()
    """The present one, too, if it is paused."""

    @property
    def is_terminal(self) -> bool:
        """True when it will never run again by itself."""
        return self.state in TERMINAL_STATES

    @property
    def current_pause(self) -> Pause | None:
        return self.pauses[-1] if self.state == PAUSED else None

    def find_pause_to_resume(self, *, subscribed_at_ms: int, seen: Pause | None) -> Pause | Resumption:
        """The present pause if it is the one that is meant, else why nothing is to be resumed.

        Meant is the pause that was ``seen`` by an earlier try. Without one it is the first that had not ended when its
        end was subscribed to: a flow subscribes in its pause, or just before it.

        Args:
            subscribed_at_ms: by Redis's clock, which should be within a second of Kestra's; 0 when it is not known.
            seen: by an earlier try; None when there was none, or it saw no pause.
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
    """The first: of several that are paused side by side it is the one that Kestra resumes."""
    runs = answer.taskRunList or ()
    return next((run.id for run in runs if run.state is not None and run.state.current == PAUSED), "")


def _epoch_ms(date: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(date).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None
