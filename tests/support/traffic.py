"""What these tests say to replicas, and what they wait for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpx2

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.raw_http import RawAnswer, RawConnection
from tests.support.replica import Replica
from tests.support.routes import CALLS, STATS, WEBHOOK

LATE_REDIS = "result store is not available"
"""In the error of a request that Redis did not serve in time, which happens on a busy machine, too."""

LATE_DISK = "disk does not answer"
"""In the error of a webhook that the spool could not write in time, which happens on a busy machine."""


def open_client(**options: Any) -> httpx2.AsyncClient:
    """A client for any number of requests at once, none of which gives up before the service does; without TLS."""
    # To load the certificates takes 30 ms, more than most tests do with it.
    usual: dict[str, Any] = {"timeout": PATIENCE_S, "limits": httpx2.Limits(), "trust_env": False, "verify": False}
    return httpx2.AsyncClient(**usual | options)


async def post_webhook(client: httpx2.AsyncClient, replica: Replica, body: Any, **headers: str) -> httpx2.Response:
    return await client.post(replica.url + WEBHOOK, json=body, headers=headers)


async def post_until_taken(client: httpx2.AsyncClient, replica: Replica, body: Any, **headers: str) -> None:
    """As VAPI does: post it again after a 503, which a busy machine gives, too."""

    async def is_taken() -> bool:
        return (await post_webhook(client, replica, body, **headers)).status_code == 200

    await eventually(is_taken)


async def ask_despite_late_disk(ask: Callable[[], Awaitable[httpx2.Response]]) -> list[httpx2.Response]:
    """Ask again while the spool's disk is late; all answers, of which the last is another one."""
    answers: list[httpx2.Response] = []

    async def is_answered() -> bool:
        answers.append(await ask())
        return answers[-1].status_code != 503 or LATE_DISK not in answers[-1].json()["error"]

    await eventually(is_answered)
    return answers


async def post_despite_late_disk(
    client: httpx2.AsyncClient, replica: Replica, body: Any, **headers: str
) -> httpx2.Response:
    """Post it again while the spool's disk is late; the first other answer."""
    return (await ask_despite_late_disk(lambda: post_webhook(client, replica, body, **headers)))[-1]


async def delete_call(client: httpx2.AsyncClient, replica: Replica, call_id: str) -> None:
    """Delete it; again after a 503, though it may have been done."""
    statuses: list[int] = []

    async def is_answered() -> bool:
        statuses.append((await client.delete(replica.url + CALLS + call_id)).status_code)
        return statuses[-1] != 503

    await eventually(is_answered)
    assert statuses == [200] or (statuses[-1] in (200, 404) and len(statuses) > 1), statuses


async def metrics_of(client: httpx2.AsyncClient, base_url: str = "", **headers: str) -> dict[str, float]:
    """All lines of ``/metrics`` by name and labels."""
    lines = (await client.get(base_url + "/metrics", headers=headers)).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


async def webhooks_counted(client: httpx2.AsyncClient, replica: Replica, result: str = r"\w+") -> int:
    """How many webhooks the replica's own metrics count, those with that result."""
    # On a connection of its own: with several workers, any of them may answer.
    lines = await metrics_of(client, replica.url, Connection="close")
    pattern = re.compile(rf'vapi_webhooks_total\{{.*result="{result}".*\}}')
    return round(sum(value for name, value in lines.items() if pattern.fullmatch(name)))


async def metric_at(client: httpx2.AsyncClient, replica: Replica, sample: str) -> float:
    """The value of one line of ``/metrics``; 0 when the line is not there yet."""
    return (await metrics_of(client, replica.url)).get(sample, 0.0)


async def get_call(client: httpx2.AsyncClient, replica: Replica, call_id: str, **query: str) -> httpx2.Response:
    return await client.get(replica.url + CALLS + call_id, params=query)


async def get_record(client: httpx2.AsyncClient, replica: Replica, call_id: str, **query: str) -> dict[str, Any]:
    """``data`` of a poll that must find the record."""
    answer = await get_when_served(client, replica.url + CALLS + call_id, query)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()["data"]
    return record


async def get_when_served(
    client: httpx2.AsyncClient, url: str, params: dict[str, str] | None = None
) -> httpx2.Response:
    """The answer once it is not a 503. What asks all buckets may take longer than STORE_TIMEOUT_S on a busy machine."""
    return await ask_until_served(lambda: client.get(url, params=params))


async def ask_until_served(ask: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """The first answer that is not a 503, which a busy machine gives, too."""
    answers: list[httpx2.Response] = []

    async def is_served() -> bool:
        answers.append(await ask())
        return answers[-1].status_code != 503

    await eventually(is_served)
    return answers[-1]


async def answers_at_once(replica: Replica, requests: list[bytes]) -> list[RawAnswer]:
    """Each on a connection of its own."""
    connections = await asyncio.gather(*(RawConnection.open(replica.port) for _ in requests))
    try:
        await asyncio.gather(*(one.send(request) for one, request in zip(connections, requests, strict=True)))
        return await asyncio.gather(*(connection.answer() for connection in connections))
    finally:
        for connection in connections:
            connection.abort()


async def until_ready(client: httpx2.AsyncClient, replica: Replica, status: int = 200) -> None:
    """Return when its readiness is answered so."""

    async def is_so() -> bool:
        return (await client.get(replica.url + "/health/ready")).status_code == status

    await eventually(is_so)


async def get_stats(client: httpx2.AsyncClient, base_url: str = "", **query: str) -> dict[str, Any]:
    """The stats, once they have all their parts: on a busy machine Redis may be late for some."""
    found: list[dict[str, Any]] = []

    async def are_whole() -> bool:
        found.append((await client.get(base_url + STATS, params=query)).json().get("stats", {}))
        return bool(found[-1].get("calls") and found[-1].get("webhooks")) and "missing_buckets" not in found[-1]

    await eventually(are_whole)
    return found[-1]


async def until_readable(
    client: httpx2.AsyncClient, replica: Replica, call_ids: Iterable[str], within_s: float = PATIENCE_S
) -> None:
    """Return when all of these calls can be polled. None is asked for again after it was found."""
    missing = list(call_ids)

    async def are_there() -> bool:
        while asked := missing[:25]:
            answers = await asyncio.gather(*(get_call(client, replica, one, view="summary") for one in asked))
            late = [one for one, answer in zip(asked, answers, strict=True) if answer.status_code != 200]
            missing[: len(asked)] = late
            if late:
                return False
        return True

    await eventually(are_there, within_s)


async def until_parked(client: httpx2.AsyncClient, replica: Replica, number: int) -> None:
    async def are_parked() -> bool:
        return await metric_at(client, replica, "vapi_polls_waiting") == number

    await eventually(are_parked)
