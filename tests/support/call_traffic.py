"""Many calls at once, as VAPI and Kestra would have them: each rings, is talked through, ends and is reported, while a
long poll waits for it. For looking at a service at work.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import UTC, datetime
from typing import Final

import httpx2

from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import PROOF, READER
from tests.support.vapi_sender import full_report, preliminary_report, status_update

ENDINGS: Final = {
    "customer-ended-call": 46,
    "assistant-ended-call": 30,
    "voicemail": 18,
    "customer-did-not-answer": 11,
    "customer-busy": 6,
    "manually-canceled": 3,
    "call.in-progress.error-vapifault-worker-died": 3,
    "pipeline-error-openai-401-unauthorized": 2,
}
"""Ended reasons by how often they happen."""

NEVER_TALKED: Final = ("customer-did-not-answer", "customer-busy", "manually-canceled")


class CallTraffic:
    """Sends to one service or, in turn, to several. ``pace`` shortens all pauses; 1 takes some 20 s for a call."""

    def __init__(self, clients: list[httpx2.AsyncClient], *, pace: float = 1.0, seed: int = 13) -> None:
        self._clients = clients
        self._pace = pace
        self._random = random.Random(seed)
        self.webhooks = 0

    async def send(self, calls: int, *, every_s: float, reports_lost: int = 0) -> None:
        """Begin so many calls, one after the other, and return when all have ended. The last lose their reports."""
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(self._live(str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
                                             loses_report=number >= calls - reports_lost))  # fmt: skip
                await asyncio.sleep(every_s * self._random.uniform(0.4, 1.6))

    async def _live(self, call_id: str, *, loses_report: bool) -> None:
        reason = self._random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        phone = f"+1{self._random.choice((212, 415, 864, 917))}555{self._random.randint(0, 9999):04}"
        customer = {"customer": {"number": phone}}
        async with asyncio.TaskGroup() as group:
            await self._deliver(status_update("queued", call_id, **customer))
            poll = group.create_task(self._poll(call_id))
            await self._pause(0.3, 1)
            await self._deliver(status_update("ringing", call_id))
            await self._pause(2, 7)
            started_at = datetime.now(UTC)
            if reason not in NEVER_TALKED:
                await self._deliver(status_update("in-progress", call_id))
                await self._pause(3, 26)
            ended_at = datetime.now(UTC)
            seconds = (ended_at - started_at).total_seconds() if reason not in NEVER_TALKED else 0.0
            times = {"startedAt": started_at.isoformat(), "endedAt": ended_at.isoformat(), "durationSeconds": seconds}
            await self._deliver(status_update("ended", call_id, endedReason=reason))
            await self._pause(1, 5)
            if loses_report:
                poll.cancel()
                return
            if reason in NEVER_TALKED:
                await self._deliver(preliminary_report(call_id, endedReason=reason, **customer))
            else:
                await self._deliver(full_report(call_id, endedReason=reason, **times, **customer))

    async def _poll(self, call_id: str) -> None:
        status = 202
        while status == 202:
            status = (await self._client().get(CALLS + call_id, params={"wait": "20"}, headers=READER)).status_code

    async def _deliver(self, body: dict[str, object]) -> None:
        answer = await self._client().post(WEBHOOK, json=body, headers=PROOF)
        assert answer.status_code == 200, answer.text
        self.webhooks += 1

    async def _pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._random.uniform(least_s, most_s) * self._pace)

    def _client(self) -> httpx2.AsyncClient:
        return self._random.choice(self._clients)
