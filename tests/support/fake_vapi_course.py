"""The course of one call at the fake VAPI: what asking shows at each moment, and which messages are made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.fake_vapi_calls import apply_analysis, apply_end, iso, now_ms, report, status_update
from tests.support.fake_vapi_webhooks import REPORT, Message, Plan, Postman

STATUS_UPDATE = "status-update"


@dataclass(frozen=True)
class Course:
    """``call`` is what asking shows and changes as the call goes on; ``snapshot`` is it as it was created."""

    call: dict[str, Any]
    snapshot: dict[str, Any]
    assistant: dict[str, Any]
    plan: Plan
    postman: Postman

    async def run(self) -> None:
        for status in self.plan.statuses:
            await asyncio.sleep(self.plan.step_s)
            await self._reach(status)
        if self.call["status"] == "ended":
            await self._report()
        await self.postman.finish()

    async def _reach(self, status: str) -> None:
        if status == "ended":
            apply_end(self.call, self.plan.talk)
        self._touch(status=status)
        make = partial(status_update, self.snapshot, self.call, self.assistant, status)
        await self._tell(status, STATUS_UPDATE, make)

    async def _report(self) -> None:
        make = partial(report, self.snapshot, self.call, self.assistant, self.plan.talk)
        if self.plan.has_preliminary_report:
            await self._tell("preliminary", REPORT, partial(make, is_preliminary=True))
        await asyncio.sleep(self.plan.analysis_after_s)
        apply_analysis(self.call, self.plan.talk)
        self._touch()
        await self._tell(REPORT, REPORT, partial(make, is_preliminary=False))

    def _touch(self, **fields: Any) -> None:
        self.call.update(fields, updatedAt=iso(now_ms()))

    async def _tell(self, kind: str, type_: str, make: Callable[[], dict[str, Any]]) -> None:
        if type_ in (self.assistant.get("serverMessages") or (STATUS_UPDATE, REPORT)):
            await self.postman.take(Message(str(self.call["id"]), kind, make))
