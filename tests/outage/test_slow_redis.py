"""Redis answers, but late: nobody waits longer than two seconds, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.access_log import LONGEST_ANSWER_S
from tests.support.ledger import find_unreadable
from tests.support.raw_http import KeptConnections, get, post
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import connected, metric
from tests.support.slow_proxy import SlowProxyProcess
from tests.support.vapi_sender import full_report, preliminary_report

PER_SECOND = 700
SENT_FOR_S = 3.0
LATE_S = 0.22
"""Each way. A reply is in time, but batches of 16 on four connections carry 145 a second then: without a bound the last
webhook would wait 11 s.
"""

CLIENT_GIVES_UP_S = 60.0
READ_BACK_WITHIN_S = 60.0

StartReplica = Callable[..., Replica]

SPOOL_SETTINGS: dict[str, Callable[[Path], dict[str, Path]]] = {
    "without a spool": lambda _: {},
    "with a spool": lambda folder: {"spool_dir": folder},
}


@dataclass
class Answers:
    """What came back, by call id."""

    status: dict[str, int] = field(default_factory=dict)

    def with_status(self, status: int) -> list[str]:
        return [name for name, got in self.status.items() if got == status]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    process = RedisProcess().start()
    yield process
    process.stop()


@pytest.fixture
def proxy(redis: RedisProcess) -> Iterator[SlowProxyProcess]:
    proxy = SlowProxyProcess(redis.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def start(proxy: SlowProxyProcess) -> Iterator[StartReplica]:
    replicas: list[Replica] = []

    def start_one(**settings: object) -> Replica:
        replicas.append(Replica(redis_url=proxy.url, log_level="info", **settings))
        return replicas[-1].start()

    yield start_one
    for replica in replicas:
        replica.stop()


def slowest_s(replica: Replica) -> float:
    """Of all webhooks and reads, by the service's own access log: the clients here have too much else to do."""
    lines = [json.loads(line) for line in replica.log.splitlines() if '"duration_ms"' in line]
    return float(max(line["duration_ms"] for line in lines if not line["route"].startswith("/health"))) / 1000


async def spooled_count(replica: Replica) -> float:
    async with connected(replica) as client:
        return await metric(client, 'vapi_webhooks_total{result="spooled",type="end-of-call-report"}')


class Senders:
    """Notes what came back."""

    def __init__(self, port: int) -> None:
        self._connections = KeptConnections(port)
        self.close = self._connections.close

    async def send(self, name: str, request: bytes, answers: Answers) -> None:
        answers.status[name] = (await self._connections.ask(request, CLIENT_GIVES_UP_S)).status


async def send_at_rate(replica: Replica, prefix: str, per_second: int = PER_SECOND) -> Answers:
    """Post numbered webhooks at a constant rate, whatever the answers take."""
    answers, senders = Answers(), Senders(replica.port)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * SENT_FOR_S)):
            name = f"{prefix}-{number}"
            group.create_task(senders.send(name, post(json.dumps(full_report(name)).encode()), answers))
            await asyncio.sleep(max(0.0, started + (number + 1) / per_second - loop.time()))
    senders.close()
    return answers


@pytest.mark.parametrize("spool", ["without a spool", "with a spool"])
@pytest.mark.parametrize("limit", [0, 1_000_000], ids=["no rate limit", "with a rate limit"])
async def test_no_webhook_waits_longer_than_two_seconds_for_a_redis_too_slow_for_what_comes(
    proxy: SlowProxyProcess, start: StartReplica, tmp_path: Path, spool: str, limit: int
) -> None:
    """Each attempt at Redis is answered in time, and yet there is more than fits through."""
    replica = start(redis_key_prefix=tmp_path.name, rate_limit_per_minute=limit, **SPOOL_SETTINGS[spool](tmp_path))
    proxy.delay(commands_s=LATE_S, replies_s=LATE_S)

    answers = await send_at_rate(replica, "late")

    proxy.delay()
    assert len(answers.status) == PER_SECOND * SENT_FOR_S
    assert set(answers.status.values()) <= {200, 503}
    assert spool == "without a spool" or await spooled_count(replica) > 0
    assert slowest_s(replica) < LONGEST_ANSWER_S
    assert await find_unreadable(answers.with_status(200), [replica], READ_BACK_WITHIN_S) == []


async def test_a_read_that_ends_a_reports_grace_waits_for_its_three_commands_no_longer_than_for_one(
    proxy: SlowProxyProcess, start: StartReplica, tmp_path: Path
) -> None:
    replica = start(redis_key_prefix=tmp_path.name, report_grace_s=0.3)
    names = [f"grace-{number}" for number in range(20)]
    answers, senders = Answers(), Senders(replica.port)
    proxy.delay(replies_s=0.45)  # each command is in time, three of them are not
    asking = []
    for name in names:
        await senders.send(name, post(json.dumps(preliminary_report(name)).encode()), answers)
        asking.append(asyncio.ensure_future(senders.send(name, get(f"{CALLS}{name}".encode()), answers)))
    await asyncio.gather(*asking)
    # One after the other, the three would have been answered, after 1.35 s.
    assert answers.with_status(503)
    senders.close()

    assert set(answers.status.values()) <= {200, 503}
    assert slowest_s(replica) < LONGEST_ANSWER_S
