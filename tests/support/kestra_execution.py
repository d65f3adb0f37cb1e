"""An execution in the fake Kestra: it stands still until a test, or the flow that a test plays, moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tests.support.eventually import PATIENCE_S, eventually

TERMINAL: Final = ("SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED", "RESUBMITTED")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class FakeExecution:
    id: str
    namespace: str
    flow: str
    inputs: dict[str, str]
    labels: dict[str, str]
    outputs: dict[str, Any] | None = None
    resumes: int = 0
    """How often it was really resumed."""
    resume_inputs: dict[str, str] = field(default_factory=dict)
    shows_task_runs: bool = True
    histories: list[tuple[str, str]] = field(default_factory=lambda: [("CREATED", now())])

    @property
    def state(self) -> str:
        return self.histories[-1][0]

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.histories]

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    @property
    def task_runs(self) -> list[dict[str, Any]]:
        """One for each pause, as a loop around a Pause has them."""
        pauses = self.states.count("PAUSED")
        return [
            {
                "id": f"{self.id}Pause{number}",
                "taskId": "until_resumed",
                "state": {"current": "PAUSED" if self.state == "PAUSED" and number == pauses else "SUCCESS"},
            }
            for number in range(1, pauses + 1)
        ]

    def move(self, *states: str) -> None:
        """On to these states, one after the other."""
        for state in states:
            assert not self.is_over, f"{self.state} is the end"
            self.histories.append((state, now()))

    def pause(self) -> None:
        self.move("RUNNING", "PAUSED")

    def end(self, state: str = "SUCCESS", outputs: Mapping[str, Any] | None = None) -> None:
        self.outputs = dict(outputs or {}) or None
        self.move(state)

    def resume(self, inputs: Mapping[str, str]) -> None:
        """What Kestra does: the task run goes on, so the execution is restarted and runs."""
        self.resumes += 1
        self.resume_inputs = dict(inputs)
        self.move("RESTARTED", "RUNNING")

    async def until(self, *states: str, within_s: float = PATIENCE_S) -> None:
        """Waits until it is in one of these states, or was."""
        try:
            await eventually(lambda: not set(states).isdisjoint(self.states), within_s)
        except TimeoutError:
            raise AssertionError(f"not {' or '.join(states)} within {within_s} s: {self.states}") from None

    async def until_resumed(self, within_s: float = PATIENCE_S) -> None:
        await self.until("RESTARTED", within_s=within_s)

    def as_json(self, *, with_outputs: bool) -> dict[str, Any]:
        content: dict[str, Any] = {
            "id": self.id,
            "namespace": self.namespace,
            "flowId": self.flow,
            "flowRevision": 1,
            "inputs": self.inputs,
            "labels": [{"key": key, "value": value} for key, value in self.labels.items()],
            "state": {
                "current": self.state,
                "histories": [{"state": state, "date": date} for state, date in self.histories],
                "duration": "PT0.1S",
                "startDate": self.histories[0][1],
            },
            "originalId": self.id,
            "deleted": False,
            "metadata": {"attemptNumber": 1, "originalCreatedDate": self.histories[0][1]},
        }
        if self.shows_task_runs:
            content["taskRunList"] = self.task_runs
        return content | ({"outputs": self.outputs} if with_outputs and self.outputs is not None else {})
