"""Whatever Redis may answer is a 503 or goes to the spool, never a 500; a URL for another kind of Redis is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.answering_redis import AnsweringRedis
from tests.support.call_requests import REQUIRED
from tests.support.cluster_setup import ClusterSetup
from tests.support.eventually import eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.traffic import get_call, post_despite_late_disk, post_webhook, webhooks_counted
from tests.support.vapi_sender import full_report, status_update

ERRORS = (
    "MOVED 3999 127.0.0.1:6381", "MOVED 3999 :6381", "MOVED", "MOVED x y", "ASK 3999 127.0.0.1:6381", "ASK",
    "TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN Hash slot not served",
    "CROSSSLOT Keys in request don't hash to the same slot", "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN RedisSocket with MASTER is down", "BUSY Redis is busy running a script.",
    "UNKILLABLE Sorry the script already executed write commands", "OOM command not allowed",
    "NOREPLICAS Not enough good replicas to write.", "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair", "NOPERM this user has no permissions", "EXECABORT Transaction discarded",
    "MISCONF Redis is configured to save RDB snapshots", "READONLY You can't write against a read only replica.",
    "NOSCRIPT No matching script.", "WRONGTYPE Operation against a key", "ERR unknown command 'EVALSHA'",
    "ERR max number of clients reached", "ERR Script attempted to access a non local key in a cluster node",
    "INPROG Failover already in progress", "NOTBUSY No scripts in execution right now.", "BUSYGROUP x", "NOGOODSLAVE x",
    "nobody foresaw this", "",
)  # fmt: skip

NOBODY_FORESAW = ("redis_connection.failed", "background.failed", "request.failed")

TOKEN = "a-token-of-tests"

HANDSHAKE = frozenset({b"CLIENT", b"AUTH", b"SELECT", b"SUBSCRIBE", b"PING"})


@pytest.fixture
async def answering() -> AsyncIterator[AnsweringRedis]:
    async with AnsweringRedis() as server:
        yield server


async def ask_everything(client: httpx2.AsyncClient, replica: Replica) -> dict[str, int]:
    """Every route that touches Redis, by its name: the status of its answer."""
    requests: dict[str, tuple[str, str, Any]] = {
        "webhook": ("POST", WEBHOOK, full_report("asked")),
        "status update": ("POST", WEBHOOK, status_update("ringing", "asked")),
        "poll": ("GET", f"{CALLS}asked", None),
        "long poll": ("GET", f"{CALLS}asked?wait=0.2", None),
        "delete": ("DELETE", f"{CALLS}asked", None),
        "by phone": ("GET", f"{CALLS}by-phone/+18645550123", None),
        "stats": ("GET", "/api/v1/vapi/cache/stats", None),
        "subscription": ("POST", f"{CALLS}asked/subscriptions", {"kind": "kestra_resume", "execution_id": "e1"}),
        "placing": ("POST", "/api/v1/vapi/calls", REQUIRED),
        "ready": ("GET", "/health/ready", None),
        "health": ("GET", "/health", None),
        "metrics": ("GET", "/metrics", None),
    }

    async def ask(method: str, path: str, body: Any) -> int:
        headers = {"Idempotency-Key": "asked-once", "Authorization": f"Bearer {TOKEN}", "X-Vapi-Secret": TOKEN}
        return (await client.request(method, replica.url + path, json=body, headers=headers)).status_code

    statuses = await asyncio.gather(*(ask(*request) for request in requests.values()))
    return dict(zip(requests, statuses, strict=True))


@pytest.mark.parametrize(
    ("scheme", "fine"),
    [("redis", HANDSHAKE), ("redis", HANDSHAKE - {b"SELECT", b"SUBSCRIBE", b"AUTH"}), ("redis+cluster", HANDSHAKE)],
    ids=["every command", "the handshake", "a Cluster"],
)
async def test_no_error_of_redis_becomes_a_500(
    client: httpx2.AsyncClient,
    answering: AnsweringRedis,
    start_replica: Callable[..., Replica],
    scheme: str,
    fine: frozenset[bytes],
) -> None:
    answering.fine = fine
    async with FakeKestra() as kestra:
        replica = start_replica(
            redis_url=f"{scheme}://:secret@127.0.0.1:{answering.port}" + ("/1" if scheme == "redis" else ""),
            store_timeout_s=0.2, store_wait_replicas=1, rate_limit_per_minute=1000, kestra_url=kestra.url,
            vapi_api_key="key", vapi_phone_number_id="phone", call_allowed_prefixes="+1", vapi_api_url="http://127.0.0.1:9", log_level="error",
            api_admin_tokens=TOKEN, vapi_webhook_secret=TOKEN,
        )  # fmt: skip
        wrong = {}
        for error in ERRORS:
            answering.answer = f"-{error}\r\n".encode()
            statuses = await ask_everything(client, replica)
            if unexpected := {name: status for name, status in statuses.items() if not is_expected(name, status)}:
                wrong[error] = unexpected
        assert wrong == {}
        assert [line for line in replica.log.splitlines() if any(event in line for event in NOBODY_FORESAW)] == []


def is_expected(name: str, status: int) -> bool:
    if name == "metrics":
        return status == 200
    return status == 503 or (name == "placing" and status in (400, 502)) or (name == "long poll" and status == 202)


async def test_what_redis_refuses_with_an_error_goes_to_the_spool(
    client: httpx2.AsyncClient, answering: AnsweringRedis, tmp_path: Path, start_replica: Callable[..., Replica]
) -> None:
    answering.fine = HANDSHAKE
    replica = start_replica(
        redis_url=f"redis://127.0.0.1:{answering.port}", store_timeout_s=0.3, spool_dir=tmp_path / "spool"
    )
    wrong = {}
    for number, error in enumerate(ERRORS):
        answering.answer = f"-{error}\r\n".encode()
        answer = await post_despite_late_disk(client, replica, full_report(f"spooled-{number}"))
        if answer.status_code != 200:
            wrong[error] = answer.status_code
    assert wrong == {}
    assert await webhooks_counted(client, replica, "spooled") == len(ERRORS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSetup]:
    cluster = ClusterSetup()
    try:
        yield cluster.start()
    finally:
        cluster.stop()


async def test_a_cluster_behind_the_url_of_one_server_is_named_and_never_a_500(
    client: httpx2.AsyncClient, cluster: ClusterSetup, start_replica: Callable[..., Replica]
) -> None:
    for node in (cluster.masters()[0], next(node for node in cluster.nodes if node not in cluster.masters())):
        replica = start_replica(redis_url=node.url)
        answers = await asyncio.gather(
            *(post_webhook(client, replica, full_report(f"moved-{number}")) for number in range(60))
        )
        assert {answer.status_code for answer in answers} <= {200, 503}
        polls = await asyncio.gather(*(get_call(client, replica, f"moved-{number}") for number in range(60)))
        assert {poll.status_code for poll in polls} <= {200, 404, 503}
        await eventually(partial(_is_named, client, replica, "redis+cluster://"))
        assert "redis.wrong_topology" in replica.log


async def test_one_server_behind_the_url_of_a_cluster_is_named(
    client: httpx2.AsyncClient, redis_process: RedisProcess, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=redis_process.url.replace("redis://", "redis+cluster://").removesuffix("/0"))
    assert (await post_webhook(client, replica, full_report("no-cluster"))).status_code == 503
    await eventually(partial(_is_named, client, replica, "redis://"))
    assert "redis.wrong_topology" in replica.log


async def _is_named(client: httpx2.AsyncClient, replica: Replica, scheme: str) -> bool:
    ready, health = [await client.get(replica.url + path) for path in ("/health/ready", "/health")]
    problem = health.json()["dependencies"]["redis"]["problem"] or ""
    return (
        (ready.status_code, health.status_code) == (503, 503)
        and f"begin with {scheme}" in ready.text
        and f"begin with {scheme}" in problem
    )
