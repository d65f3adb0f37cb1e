"""How the fake VAPI delivers server messages: to whom, in which order, how often, and what it does about a refusal."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx2

from tests.support.fake_vapi_calls import Talk
from tests.support.routes import WEBHOOK

REPORT: Final = "end-of-call-report"

TIMEOUT_S: Final = 20.0
"""VAPI's own default."""

SECONDS_OF_A_TEST: Final = 0.02
"""How long a second of the backoff plan takes here."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a call goes, and what becomes of the messages about it. By default everything arrives, once and in order."""

    talk: Talk = field(default_factory=Talk)
    statuses: tuple[str, ...] = ("queued", "ringing", "in-progress", "ended")
    step_s: float = 0.0
    """Between two statuses."""
    analysis_after_s: float = 0.0
    """From the end of the call until its analysis is there, and with it the full report."""
    has_preliminary_report: bool = False
    missing: frozenset[str] = frozenset()
    """What is never sent: a status, ``preliminary``, or ``end-of-call-report`` for the full one."""
    is_silent: bool = False
    """Nothing is sent at all: only who asks will know."""
    copies: int = 1
    """How often each message is sent."""
    order: Literal["as it happens", "reversed", "shuffled"] = "as it happens"
    """The latter two send everything after the call's end."""
    is_at_once: bool = False
    """What was held back is sent in parallel."""
    late_s: float = 0.0
    """Between the making of a message and its sending."""
    seed: int = 0
    """Of the shuffling, and of which base URL gets which message."""


@dataclass(frozen=True)
class Server:
    """Where an assistant wants its messages, and how: VAPI's ``server`` object."""

    url: str
    headers: dict[str, str]
    max_retries: int
    base_delay_s: float
    is_exponential: bool
    excluded_statuses: frozenset[int]

    @classmethod
    def of(cls, server: dict[str, Any]) -> Server:
        plan = server.get("backoffPlan") or {}
        headers = {str(name): str(value) for name, value in (server.get("headers") or {}).items()}
        if server.get("secret"):
            headers["X-Vapi-Secret"] = server["secret"]
        return cls(
            url=server.get("url", ""),
            headers=headers,
            max_retries=plan.get("maxRetries", 0),
            base_delay_s=plan.get("baseDelaySeconds", 0),
            is_exponential=plan.get("type") == "exponential",
            excluded_statuses=frozenset(plan.get("excludedStatusCodes") or ()),
        )

    def delay_s(self, attempt: int) -> float:
        """Before the retry of that number, from 1."""
        return self.base_delay_s * (2 ** (attempt - 1) if self.is_exponential else 1)


@dataclass(frozen=True)
class Delivery:
    """One message and how it was met: a status per attempt, 0 where nobody answered."""

    call_id: str
    kind: str
    """A status, ``preliminary`` or ``end-of-call-report``."""
    url: str
    statuses: tuple[int, ...]

    @property
    def is_acknowledged(self) -> bool:
        return bool(self.statuses) and 200 <= self.statuses[-1] < 300


@dataclass(frozen=True)
class Message:
    """A server message to be sent; ``make`` gives its body anew for each delivery."""

    call_id: str
    kind: str
    make: Callable[[], dict[str, Any]]


class Postman:
    """Delivers the messages of one call by its plan."""

    def __init__(self, plan: Plan, server: Server, to: Sequence[str]) -> None:
        self.deliveries: list[Delivery] = []
        self._plan = plan
        self._server = server
        self._urls = [base.rstrip("/") + WEBHOOK for base in to] or [server.url]
        self._random = random.Random(plan.seed)
        self._held: list[Message] = []

    async def take(self, message: Message) -> None:
        """Send it now, or keep it for ``finish`` where the plan says so."""
        if self._plan.is_silent or message.kind in self._plan.missing or not self._urls[0]:
            return
        for _ in range(self._plan.copies):
            if self._plan.order == "as it happens":
                await self._send(message)
            else:
                self._held.append(message)

    async def finish(self) -> None:
        if self._plan.order == "shuffled":
            self._random.shuffle(self._held)
        elif self._plan.order == "reversed":
            self._held.reverse()
        if self._plan.is_at_once:
            await asyncio.gather(*map(self._send, self._held))
            return
        for message in self._held:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        url, body = self._random.choice(self._urls), json.dumps(message.make()).encode()
        await asyncio.sleep(self._plan.late_s)
        # A connection per message, as VAPI's many machines would.
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=False) as client:
            statuses = [await self._post(client, url, body)]
            while self._is_worth_a_retry(statuses):
                await asyncio.sleep(self._server.delay_s(len(statuses)) * SECONDS_OF_A_TEST)
                statuses.append(await self._post(client, url, body))
        self.deliveries.append(Delivery(message.call_id, message.kind, url, tuple(statuses)))

    def _is_worth_a_retry(self, statuses: list[int]) -> bool:
        is_over = 200 <= statuses[-1] < 300 or statuses[-1] in self._server.excluded_statuses
        return not is_over and len(statuses) <= self._server.max_retries

    async def _post(self, client: httpx2.AsyncClient, url: str, body: bytes) -> int:
        headers = {"Content-Type": "application/json", **self._server.headers}
        try:
            return (await client.post(url, content=body, headers=headers)).status_code
        except httpx2.TransportError:
            return 0
