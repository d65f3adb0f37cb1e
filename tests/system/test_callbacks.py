"""A callback gets its call's result although replicas die, leave or are replaced, Redis fails over, and whatever stands between."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import httpx2
import pytest

from tests.support.callback_receiver import SECRET, CallbackReceiver
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.fake_vapi_server import Reply, Silence
from tests.support.load_balancer import LoadBalancer
from tests.support.ports import free_port
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import SentinelSetup
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import ADMIN, CREDENTIALS, PROOF
from tests.support.traffic import ask_until_served, get_stats, open_client, post_until_taken
from tests.support.vapi_sender import full_report

Start = Callable[..., Replica]
TURN_S = 0.05
RUN_UP_S = 0.5
"""How long the traffic flows between the faults."""


async def subscribe(client: httpx2.AsyncClient, url: str, call_id: str, callback: str) -> int:
    ask = partial(client.post, f"{url}{CALLS}{call_id}/subscriptions", json={"kind": "callback", "url": callback})
    return (await ask_until_served(ask)).status_code


class Traffic:
    """Calls with a callback, a new one each turn. As VAPI and a careful caller do, it repeats what was not acknowledged."""

    def __init__(self, client: httpx2.AsyncClient, url: str, callback: str) -> None:
        self._client = client
        self._url = url
        self._callback = callback
        self.acknowledged: set[str] = set()

    async def flow_until(self, is_over: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as calls:
            for number in count():
                if is_over.is_set():
                    return
                calls.create_task(self._live(f"call-{number}"))
                await asyncio.sleep(TURN_S)

    async def _live(self, call_id: str) -> None:
        await self._repeat(f"{CALLS}{call_id}/subscriptions", {"kind": "callback", "url": self._callback}, 202)
        await self._repeat(WEBHOOK, full_report(call_id), 200)
        self.acknowledged.add(call_id)

    async def _repeat(self, path: str, body: object, wanted: int) -> None:
        async def is_acknowledged() -> bool:
            try:
                return (await self._client.post(self._url + path, json=body)).status_code == wanted
            except httpx2.HTTPError:
                return False

        await eventually(is_acknowledged)


async def test_no_result_is_lost_when_replicas_die_or_are_replaced_and_redis_fails_over(
    receiver: CallbackReceiver,
) -> None:
    with ExitStack() as stack:
        redis = SentinelSetup(replicas=2)
        stack.callback(redis.stop)
        redis.start()
        settings = {
            "redis_url": redis.url, "store_wait_replicas": 1, "drain_s": 1, **CREDENTIALS,
            "callback_allowed_prefixes": receiver.url, "callback_secret": SECRET,
        }  # fmt: skip
        replicas = [Replica(**settings) for _ in range(2)]
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        balancer = LoadBalancer(replicas[0].port, replicas[1].port)
        stack.callback(balancer.stop)
        balancer.start()
        async with open_client(headers=ADMIN | PROOF) as client:
            traffic, is_over = Traffic(client, balancer.url, receiver.url + "/finished"), asyncio.Event()
            receiver.meet_next(Reply(500), Silence.BREAK, Reply(503))
            async with asyncio.TaskGroup() as group:
                group.create_task(traffic.flow_until(is_over))
                await suffer(replicas, redis)
                is_over.set()
            await eventually(lambda: traffic.acknowledged <= receiver.calls.keys())
            assert len(traffic.acknowledged) > 20

            async def are_counted() -> bool:
                stats = (await get_stats(client, replicas[0].url))["callbacks"]
                return bool(stats["delivered"] > 0 and stats["due"] == 0 and stats["retried"] > 0)

            await eventually(are_counted)


async def suffer(replicas: list[Replica], redis: SentinelSetup) -> None:
    """A replica is killed, the master is killed, and both replicas are replaced."""
    await asyncio.sleep(RUN_UP_S)
    replicas[0].kill()
    await asyncio.sleep(RUN_UP_S)
    await asyncio.to_thread(replicas[0].start)

    masters = await asyncio.to_thread(redis.masters)
    masters[0].kill()
    await asyncio.to_thread(redis.wait_for_promotion, masters)
    for replica in replicas:
        await asyncio.sleep(RUN_UP_S)
        replica.terminate()
        await asyncio.to_thread(replica.wait)
        await asyncio.to_thread(replica.start)


async def test_a_replica_that_leaves_hands_over_what_it_cannot_deliver(
    client: httpx2.AsyncClient, redis_process: RedisProcess, start_replica: Start, receiver: CallbackReceiver
) -> None:
    settings = {
        "redis_url": redis_process.url, "redis_key_prefix": "callbacks-leaving",
        "callback_allowed_prefixes": receiver.url, "callback_secret": SECRET,
    }  # fmt: skip
    first, second = start_replica(**settings), start_replica(**settings)
    receiver.meet_next(Silence.HANG)
    assert await subscribe(client, second.url, "call-1", receiver.url) == 202
    await post_until_taken(client, first, full_report("call-1"))
    await eventually(lambda: len(receiver.requests) == 1)
    first.terminate()
    assert first.wait() in (0, -15)

    await eventually(lambda: len(receiver.requests) > 1)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@pytest.mark.parametrize("is_ours", [True, False])
async def test_https_checks_the_name_in_the_certificate_and_uses_no_proxy(
    client: httpx2.AsyncClient, start_replica: Start, tmp_path: Path, *, is_ours: bool
) -> None:
    authority = Authority(tmp_path, "authority")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("DNS:localhost" if is_ours else "DNS:other.localhost"))
    receiver = CallbackReceiver(tls=tls, host="localhost").start()
    try:
        replica = start_replica(
            callback_allowed_prefixes=receiver.url, callback_secret=SECRET,
            ssl_cert_file=authority.certificate, https_proxy=f"http://127.0.0.1:{free_port()}",
        )  # fmt: skip
        assert await subscribe(client, replica.url, "call-1", receiver.url + "/x") == 202
        await post_until_taken(client, replica, full_report("call-1"))
        event = "callback.delivered" if is_ours else "callback_origin.failed"
        await eventually(lambda: event in replica.log)
        assert len(receiver.requests) == is_ours
    finally:
        receiver.stop()
