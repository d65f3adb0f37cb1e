"""A ledger of webhooks: posts numbered ones at a constant rate, remembers every answer, reads the acknowledged back."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field

from tests.support.raw_http import KeptConnections, get, post
from tests.support.replica import Replica
from tests.support.vapi_sender import full_report

ANSWER_LIMIT_S = 10.0
SLOW_S = 0.5
READ_BACK_S = 30.0
READERS = 32


@dataclass
class Ledger:
    """What was sent, and what came back. Times are of the monotonic clock."""

    prefix: str
    sent: int = 0
    acknowledged: list[str] = field(default_factory=list)
    acknowledged_at: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    """Connections that a killed process took with it."""
    troubled_at: list[float] = field(default_factory=list)
    """When those were sent that were refused, reset, or answered slowly."""

    async def post(self, connections: KeptConnections) -> None:
        self.sent += 1
        call_id = f"{self.prefix}-{self.sent}"
        started = time.monotonic()
        try:
            answer = await connections.ask(post(json.dumps(full_report(call_id)).encode()), ANSWER_LIMIT_S)
        except (OSError, asyncio.IncompleteReadError):
            self.broken += 1
            self.troubled_at.append(started)
            return
        finished = time.monotonic()
        if answer.status == 200:
            self.acknowledged.append(call_id)
            self.acknowledged_at.append(finished)
        else:
            self.refused += 1
        if answer.status != 200 or finished - started > SLOW_S:
            self.troubled_at.append(started)

    def first_success_after_s(self, moment: float) -> float:
        """From that moment to the first acknowledgement after it."""
        return min((at - moment for at in self.acknowledged_at if at >= moment), default=float("inf"))

    def well_after_s(self, moment: float) -> float:
        """From that moment to the sending of the last webhook that was refused, reset, or answered slowly."""
        return max((at - moment for at in self.troubled_at if at >= moment), default=0.0)


async def post_at_rate(ledger: Ledger, replicas: list[Replica], per_second: float, until: asyncio.Event) -> None:
    """Post to the replicas in turn, without waiting for answers, until told to stop."""
    kept = [KeptConnections(replica.port) for replica in replicas]
    loop = asyncio.get_running_loop()
    started, posts = loop.time(), set()
    for number in itertools.count():
        if until.is_set():
            break
        posts.add(asyncio.create_task(ledger.post(kept[number % len(kept)])))
        await asyncio.sleep(max(0.0, started + (number + 1) / per_second - loop.time()))
    await asyncio.gather(*posts)
    for connections in kept:
        connections.close()


async def find_missing(ledger: Ledger, replicas: list[Replica]) -> list[str]:
    """Acknowledged calls that no replica can show."""
    return await find_unreadable(ledger.acknowledged, replicas, READ_BACK_S)


async def find_unreadable(call_ids: list[str], replicas: list[Replica], within_s: float) -> list[str]:
    """The calls that cannot be polled; a spool is given time to drain. The replicas are asked in turn."""
    deadline = time.monotonic() + within_s
    kept = [KeptConnections(replica.port) for replica in replicas]
    missing: list[str] = []
    for begin in range(0, len(call_ids), READERS):
        unread, tries = call_ids[begin : begin + READERS], itertools.count()
        while unread := await _unreadable(unread, kept, next(tries)):
            if time.monotonic() > deadline:
                missing += unread
                break
            await asyncio.sleep(0.2)
    for connections in kept:
        connections.close()
    return missing


async def _unreadable(call_ids: list[str], kept: list[KeptConnections], turn: int) -> list[str]:
    async def is_there(number: int, call_id: str) -> bool:
        request = get(f"/api/v1/vapi/calls/{call_id}?view=summary".encode())
        try:
            answer = await kept[(number + turn) % len(kept)].ask(request, ANSWER_LIMIT_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return answer.status == 200

    found = await asyncio.gather(*(is_there(number, call_id) for number, call_id in enumerate(call_ids)))
    return [call_id for call_id, is_found in zip(call_ids, found, strict=True) if not is_found]
