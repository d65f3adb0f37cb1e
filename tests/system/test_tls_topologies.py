"""Sentinel and Cluster over TLS: everything works, and a certificate that does not fit is refused in time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.failover import wakes_at_once
from tests.support.replica import Replica
from tests.support.tls_topologies import cluster_over_tls, sentinel_over_tls
from tests.support.traffic import post_until_taken, post_webhook, until_readable, until_ready
from tests.support.vapi_sender import full_report

ELSEWHERE = "DNS:redis.elsewhere.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_everything_works_over_tls_and_another_authority_is_refused(
    client: httpx2.AsyncClient,
    authority: Authority,
    tmp_path: Path,
    topology: str,
    start_replica: Callable[..., Replica],
) -> None:
    certificate, key = authority.issue("DNS:the.service.example")
    with sentinel_over_tls(authority) if topology == "sentinel" else cluster_over_tls(authority) as address:
        url = f"rediss+{topology}://{address}?ssl_ca_certs="
        first = start_replica(redis_url=f"{url}{authority.certificate}")
        second = start_replica(redis_url=f"{url}{authority.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}")
        for number in range(40):  # of a Cluster's masters, each has some
            await post_until_taken(client, first, full_report(f"call-{number}"))
            await until_readable(client, second, [f"call-{number}"])
        await until_ready(client, first)
        await eventually(lambda: wakes_at_once(client, first, second, "woken"))
        await is_refused(client, start_replica(redis_url=f"{url}{Authority(tmp_path, 'others').certificate}"))
        await is_refused(client, start_replica(redis_url=f"rediss+{topology}://{address}"))
        await is_refused(client, start_replica(redis_url=f"redis+{topology}://{address}"))


async def test_a_certificate_for_another_host_is_refused_unless_the_check_is_switched_off(
    client: httpx2.AsyncClient, authority: Authority, start_replica: Callable[..., Replica]
) -> None:
    with ExitStack() as stack:
        urls = [
            f"rediss+sentinel://{stack.enter_context(sentinel_over_tls(authority, sentinel_host=ELSEWHERE))}",
            f"rediss+sentinel://{stack.enter_context(sentinel_over_tls(authority, server_host=ELSEWHERE))}",
            f"rediss+cluster://{stack.enter_context(cluster_over_tls(authority, ELSEWHERE))}",
        ]
        for url in urls:
            trusted = f"{url}?ssl_ca_certs={authority.certificate}"
            await is_refused(client, start_replica(redis_url=trusted))
            replica = start_replica(redis_url=f"{trusted}&ssl_check_hostname=no")
            await post_until_taken(client, replica, full_report("unchecked"))


async def is_refused(client: httpx2.AsyncClient, replica: Replica) -> None:
    assert (await post_webhook(client, replica, full_report("refused"))).status_code == 503
    assert (await client.get(replica.url + "/health/ready")).status_code == 503
