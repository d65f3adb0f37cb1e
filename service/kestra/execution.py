"""What Kestra says about an execution, and about a request to resume one."""

from __future__ import annotations

import enum
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


class State(msgspec.Struct, frozen=True):
    current: str
    histories: tuple[Past, ...] | None = None


class ExecutionAnswer(msgspec.Struct, frozen=True):
    """The part that we read of the execution in Kestra's answers."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    state: State | None = None
    outputs: dict[str, Any] | None = None
    """Never there in 2.x."""


class Execution(msgspec.Struct, frozen=True):
    """One run of a flow, as it was when Kestra answered."""

    id: str
    state: str
    """Empty where Kestra does not tell it."""
    has_been_paused: bool = False
    """True when it is paused or was paused before."""

    @property
    def is_terminal(self) -> bool:
        """True when it will never run again by itself."""
        return self.state in TERMINAL_STATES


def execution_of(answer: ExecutionAnswer) -> Execution:
    state = answer.state or State("")
    states = {past.state for past in state.histories or ()} | {state.current}
    return Execution(answer.id, state.current, has_been_paused=PAUSED in states)
