"""Redis over TLS with a user that may do only what the service does, and over a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.access_log import LONGEST_ANSWER_S, answers_of, slowest_s
from tests.support.callback_receiver import SECRET as CALLBACK_SECRET
from tests.support.callback_receiver import CallbackReceiver
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.failover import wakes_at_once
from tests.support.fake_kestra import FakeKestra
from tests.support.redis_server import RedisProcess, free_port
from tests.support.redis_topologies import ask
from tests.support.replica import Replica
from tests.support.resuming_replica import paused_execution
from tests.support.routes import BY_PHONE, CALLS
from tests.support.service_rights import RULE
from tests.support.traffic import (
    ask_until_served,
    delete_call,
    get_record,
    get_stats,
    get_when_served,
    metric_at,
    post_until_taken,
    post_webhook,
    until_ready,
)  # fmt: skip
from tests.support.vapi_sender import full_report, status_update

NOBODY_FORESAW = ("redis_connection.failed", "background.failed", "request.failed")
"""Events that a Redis which is away must never cause."""

PASSWORD = "pass:w@rd/#?"
PASSWORD_IN_URL = "pass%3Aw%40rd%2F%23%3F"


@dataclass(frozen=True)
class SecureRedis:
    """A redis-server that speaks TLS on one port; the other, without TLS, is the administrator's."""

    process: RedisProcess
    tls_port: int

    def url(self, authority: Authority, host: str = "127.0.0.1") -> str:
        address = f"{host}:{self.tls_port}/0"
        return f"rediss://service:{PASSWORD_IN_URL}@{address}?ssl_ca_certs={authority.certificate}"


def start_secure(authority: Authority, host: str, *arguments: str) -> SecureRedis:
    certificate, key = authority.issue(host)
    port = free_port()
    process = RedisProcess(
        "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no", *arguments,
    ).start()  # fmt: skip
    ask(process, "ACL", "SETUSER", "service", "reset", "on", f">{PASSWORD}", *RULE.split())
    return SecureRedis(process, port)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[SecureRedis]:
    secure = start_secure(authority, "IP:127.0.0.1")
    yield secure
    secure.process.stop()


async def resumes(client: httpx2.AsyncClient, replica: Replica, kestra: FakeKestra) -> None:
    """An execution that waits for a call, through Redis's scripts for it, the sweep included."""
    execution = paused_execution(kestra)
    subscription = {"kind": "kestra_resume", "execution_id": execution.id}
    ask = partial(client.post, f"{replica.url}{CALLS}awaited/subscriptions", json=subscription)
    assert (await ask_until_served(ask)).status_code == 202
    await post_until_taken(client, replica, status_update("ended", "awaited"))
    await execution.until_resumed()


async def calls_back(client: httpx2.AsyncClient, replica: Replica, receiver: CallbackReceiver) -> None:
    """A callback, through Redis's scripts for it, until its record is no longer held for it."""
    subscription = {"kind": "callback", "url": receiver.url}
    ask = partial(client.post, f"{replica.url}{CALLS}told/subscriptions", json=subscription)
    assert (await ask_until_served(ask)).status_code == 202
    await post_until_taken(client, replica, full_report("told"))
    await eventually(lambda: len(receiver.requests) == 1)

    async def is_released() -> bool:
        return await metric_at(client, replica, "vapi_callback_calls") == 0

    await eventually(is_released)


async def everything_works(client: httpx2.AsyncClient, first: Replica, second: Replica, name: str) -> None:
    """What the service does with Redis, all of it."""
    for replica in (first, second):
        await until_ready(client, replica)
    for body in (status_update("ringing", name), full_report(name), full_report(name)):
        await post_until_taken(client, first, body)
    assert (await get_record(client, second, name))["data_status"] == "complete"
    assert (await get_when_served(client, f"{second.url}{BY_PHONE}+18645550123")).json()["count"] >= 1
    await eventually(lambda: wakes_at_once(client, first, second, name))
    await delete_call(client, second, name)
    await post_until_taken(client, first, full_report(name))
    assert (await get_when_served(client, first.url + CALLS + name)).status_code == 404

    async def both_are_counted() -> bool:
        stats = await get_stats(client, first.url)
        return len(stats["replicas"]) == 2 and stats["webhooks"]["stored"] >= 3

    await eventually(both_are_counted)


async def test_everything_works_over_tls_for_a_user_that_may_do_only_that(
    client: httpx2.AsyncClient,
    authority: Authority,
    secure: SecureRedis,
    start_replica: Callable[..., Replica],
    receiver: CallbackReceiver,
) -> None:
    ask(secure.process, "ACL", "LOG", "RESET")
    url = secure.url(authority)
    settings = {"redis_url": url, "rate_limit_per_minute": 1000, "report_grace_s": 0.1, "log_level": "debug"}
    async with FakeKestra() as kestra:
        settings["kestra_url"] = kestra.url
        settings |= {"callback_allowed_prefixes": receiver.url, "callback_secret": CALLBACK_SECRET}
        first, second = start_replica(**settings), start_replica(**settings)
        await resumes(client, first, kestra)
        await calls_back(client, second, receiver)
    await everything_works(client, first, second, "secured")
    await post_until_taken(client, first, status_update("ended", "failed"))

    async def is_failed() -> bool:
        return bool((await get_record(client, second, "failed"))["data_status"] == "fetch_failed")

    await eventually(is_failed)
    assert denied_to_the_service(secure) <= {"client|setinfo"}  # only a client's name for itself, from Redis 7.2
    for replica in (first, second):
        assert PASSWORD not in replica.log
        assert PASSWORD_IN_URL not in replica.log


def denied_to_the_service(secure: SecureRedis) -> set[str]:
    entries: list[Any] = ask(secure.process, "ACL", "LOG")
    return {str(entry["object"]) for entry in entries}


async def test_a_redis_whose_certificate_is_anothers_is_refused_in_time_and_without_a_word_of_the_password(
    client: httpx2.AsyncClient, authority: Authority, start_replica: Callable[..., Replica]
) -> None:
    elsewhere = start_secure(authority, "DNS:redis.elsewhere.example")
    try:
        await is_refused(client, start_replica(redis_url=elsewhere.url(authority)))
    finally:
        elsewhere.process.stop()


async def test_a_redis_of_another_authority_is_refused_in_time_and_without_a_word_of_the_password(
    client: httpx2.AsyncClient, secure: SecureRedis, tmp_path: Path, start_replica: Callable[..., Replica]
) -> None:
    await is_refused(client, start_replica(redis_url=secure.url(Authority(tmp_path, "others"))))


async def test_a_wrong_password_is_refused_in_time_and_without_a_word_of_it(
    client: httpx2.AsyncClient, authority: Authority, secure: SecureRedis, start_replica: Callable[..., Replica]
) -> None:
    url = secure.url(authority).replace(PASSWORD_IN_URL, "swordfish")
    await is_refused(client, start_replica(redis_url=url), "swordfish")


async def is_refused(client: httpx2.AsyncClient, replica: Replica, password: str = PASSWORD) -> None:
    ready, webhook = await asyncio.gather(
        client.get(replica.url + "/health/ready"), post_webhook(client, replica, full_report("refused"))
    )
    assert (ready.status_code, webhook.status_code) == (503, 503)
    assert slowest_s(await answers_of(replica, 1, lambda _: True)) < LONGEST_ANSWER_S
    await eventually(lambda: "notifications.lost" in replica.log)  # the subscription and the sweep try as well
    # Not "no traceback": uvloop leaves one of a handshake that failed just as we gave it up, harmless and without secrets.
    assert not any(event in replica.log for event in NOBODY_FORESAW)
    assert password not in replica.log
    assert PASSWORD_IN_URL not in replica.log


async def test_a_redis_that_hangs_behind_tls_is_refused_in_time_and_heals(
    client: httpx2.AsyncClient, authority: Authority, secure: SecureRedis, start_replica: Callable[..., Replica]
) -> None:
    replica = start_replica(redis_url=secure.url(authority))
    await post_until_taken(client, replica, full_report("hanging"))
    secure.process.pause()
    try:
        assert (await post_webhook(client, replica, full_report("hanging-2"))).status_code == 503
        assert slowest_s(await answers_of(replica, 2, lambda _: True)) < LONGEST_ANSWER_S
    finally:
        secure.process.resume()
    await post_until_taken(client, replica, full_report("hanging-3"))
    assert not any(event in replica.log for event in NOBODY_FORESAW)


async def test_everything_works_over_a_unix_socket(
    client: httpx2.AsyncClient, tmp_path: Path, start_replica: Callable[..., Replica]
) -> None:
    path = tmp_path / "redis.sock"
    process = RedisProcess("--unixsocket", str(path)).start()
    try:
        first, second = (start_replica(redis_url=f"unix://{path}?db=1") for _ in range(2))
        await everything_works(client, first, second, "local")
        process.kill()
        assert (await post_webhook(client, first, full_report("away"))).status_code == 503
        await asyncio.to_thread(process.start)
        await post_until_taken(client, first, full_report("again"))
    finally:
        process.stop()
