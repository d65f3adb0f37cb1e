"""How long a replica itself says that its answers took, without the time that a busy client or machine adds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.traffic import open_client

LONGEST_ANSWER_S: Final = 10.0
"""The promise is two seconds, to which ``make chaos`` holds a service that has the machine to itself. A replica that gets a
tenth of a core may take five, by its own clock; one that waits for a Redis that is away takes for ever."""


def events_in(log: str) -> list[dict[str, Any]]:
    """The lines of a replica's log that are whole and JSON."""
    lines = (line for line in log.splitlines() if line.startswith("{") and line.endswith("}"))
    return [json.loads(line) for line in lines]


async def answers_of(
    replica: Replica, number: int, is_meant: Callable[[dict[str, Any]], bool], *, since: int = 0
) -> list[dict[str, Any]]:
    """The access lines that are meant, once there are so many of them.

    ``since`` is what ``log_length`` said before. The replica must log at the info level.
    """

    def found() -> list[dict[str, Any]]:
        events = events_in(replica.log[since:])
        return [event for event in events if event["event"] == "request.finished" and is_meant(event)]

    await eventually(lambda: len(found()) >= number)
    return found()


async def log_length(replica: Replica) -> int:
    """How long the log is once it tells of every request answered so far: lines are written a little later."""
    mark = uuid.uuid4().hex
    async with open_client() as client:
        await client.get(replica.url + "/", headers={"X-Request-ID": mark})
    await eventually(lambda: mark in replica.log)
    return len(replica.log)


def slowest_s(answers: list[dict[str, Any]]) -> float:
    """The longest that one of them took, from the request's head to its answer."""
    return max(float(answer["duration_ms"]) for answer in answers) / 1000


def slowest_webhook_s(replica: Replica) -> float:
    """Of all webhooks that the replica has logged."""
    lines = [event for event in events_in(replica.log) if event.get("route") == "/api/v1/vapi/webhook"]
    return slowest_s(lines)


def moment_of(event: dict[str, Any]) -> float:
    """When a line was written, in seconds of the epoch."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()
