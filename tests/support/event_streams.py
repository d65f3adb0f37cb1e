"""Clients of server-sent events: one reads events one by one, another comes back until it has a call's record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.eventually import PATIENCE_S
from tests.support.routes import CALLS


def events_of(call_id: str) -> str:
    """The path of a call's stream."""
    return f"{CALLS}{call_id}/events"


@dataclass(frozen=True)
class Event:
    name: str
    id: str | None
    data: Any


class EventReader:
    """An open stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.last_event_id: str | None = None
        self.heartbeats = 0
        self._lines = response.aiter_lines()

    async def next(self, name: str | None = None) -> Event:
        """The next event, or the next of that name.

        Raises:
            EOFError: the stream has ended.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await self._read_block()
                if event is not None and name in (None, event.name):
                    return event

    async def until_call(self, call_id: str, name: str = "call") -> list[Event]:
        """The events up to the next one of that name and call, in a stream of all calls."""
        events = [await self.next()]
        while events[-1].name != name or events[-1].data["call_id"] != call_id:
            events.append(await self.next())
        return events

    async def rest(self) -> list[Event]:
        """All events until the stream ends."""
        events = []
        try:
            while True:
                events.append(await self.next())
        except EOFError:
            return events

    async def _read_block(self) -> Event | None:
        """None for a block that is no event."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                break
            name, _, value = line.partition(":")
            self.heartbeats += not name
            assert name not in fields, f"a second line of {name}: {line}"
            fields[name] = value.removeprefix(" ")
        else:
            raise EOFError("the stream has ended")
        self.last_event_id = fields.get("id", self.last_event_id)
        if "data" not in fields:
            return None
        return Event(fields["event"], fields.get("id"), json.loads(fields["data"]))


@asynccontextmanager
async def follow(client: httpx2.AsyncClient, path: str, last_event_id: str | None = None) -> AsyncIterator[EventReader]:
    """A stream that was opened with 200, closed at the end of the block."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield EventReader(response)


@dataclass
class Followed:
    """What a client that comes back by itself saw of a call."""

    events: list[Event]
    streams: int
    """How many it needed."""

    @property
    def is_final(self) -> bool:
        return bool(self.events) and "transcript" in (self.events[-1].data or {})


async def follow_until_final(client: httpx2.AsyncClient, url: str, call_id: str, seen: Followed) -> Event:
    """The call's final event. As EventSource does, it comes back after a moment when a stream ends or breaks."""
    last_event_id: str | None = None
    async with asyncio.timeout(PATIENCE_S):
        while not seen.is_final:
            seen.streams += 1
            try:
                async with follow(client, url + events_of(call_id), last_event_id) as stream:
                    while not seen.is_final:
                        seen.events.append(await stream.next())
                        last_event_id = stream.last_event_id
            except (EOFError, httpx2.HTTPError, AssertionError):
                await asyncio.sleep(0.05)
    return seen.events[-1]
