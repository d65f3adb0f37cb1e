"""Without any credentials: this machine's own programs are served, proxies' clients and web pages are not."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from tests.support.replica import Replica
from tests.support.routes import CALLS, STATS, WEBHOOK
from tests.support.service_api import connected, raw_connection, read_answer
from tests.support.vapi_sender import status_update

FOREIGN = [
    {"Forwarded": "for=198.51.100.7"},
    {"X-Forwarded-For": "198.51.100.7"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Host": "calls.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:8000"},
]

LOOPBACK_NAMES = [
    "localhost", "LOCALHOST:1", "localhost.", "localhost:", "ops.localhost:8000", "127.0.0.1", "127.0.0.1:99999",
    "127.255.0.9:80", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]:80",
]  # fmt: skip

OTHER_NAMES = [
    "evil.example", "evil.example:8000", "evil.example.", "localhost.evil.example", "evil-localhost", "xlocalhost",
    "127.0.0.1.evil.example", "127.1", "127.1:8000", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01",
    "0.0.0.0", "0.0.0.0:8000", "[::]", "[::]:8000", "::1", "::1:8000", "[::1", "[::1]x", "[::1]:x", "[::1%25lo]",
    "[::ffff:10.0.0.1]", "[127.0.0.1]", "10.0.0.1", "192.168.0.1", "126.255.255.255", "128.0.0.1",
    "localhost@evil.example", "evil.example@localhost", "user:secret@localhost", "localhost:80:90", "localhost:x",
    "localhost:-1", "localhost/evil", "localhost, evil.example", "localhost evil.example", "localhost:\xb2", "\xe9vil",
    "host.docker.internal", "host.docker.internal:8000", "vapi-cache", "localhost.localdomain", ":8000", "",
]  # fmt: skip
METRICS = "/metrics"
"""It needs no store, which on a busy machine is late now and then."""

PATHS = ["/", STATS, METRICS, CALLS + "x", "/nowhere"]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
@pytest.mark.parametrize("path", PATHS)
async def test_who_is_not_of_this_machine_is_403_and_told_what_to_set(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["success"]) == (403, False)
    assert "VAPI_WEBHOOK_SECRET" in answer.json()["error"]
    assert "evil" not in answer.text


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
async def test_a_strangers_webhook_is_403(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post(WEBHOOK, json=status_update("queued", "strangers"), headers=headers)
    assert answer.status_code == 403
    assert (await client.get(CALLS + "strangers")).status_code == 404


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda h: " ".join(*h.items()))
@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_health_is_open_to_all(client: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> None:
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_page_of_its_own_is_served(client: httpx2.AsyncClient, open_replica: Replica, host: str) -> None:
    answer = await client.get(METRICS, headers={"Origin": f"http://{host}:{open_replica.port}"})
    assert answer.status_code == 200


async def test_credentials_lift_the_guard(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get("/", headers={"Origin": "https://ops.example"})).status_code == 200


async def test_allowing_everybody_lifts_the_guard(start_replica: Callable[..., Replica]) -> None:
    async with connected(start_replica(allow_unauthenticated="1")) as client:
        for headers in FOREIGN:
            assert (await client.get(METRICS, headers=headers)).status_code == 200


async def statuses_of(replica: Replica, hosts: list[list[str]], path: str = METRICS) -> dict[str, int]:
    """What a request with these ``Host`` headers is answered, by their text."""
    found = {}
    for lines in hosts:
        async with raw_connection(replica) as (reader, writer):
            head = [f"GET {path} HTTP/1.1", *(f"Host: {line}" for line in lines), "", ""]
            writer.write("\r\n".join(head).encode("latin-1"))
            found[" + ".join(lines)] = (await read_answer(reader)).status
    return found


async def test_every_loopback_name_is_served_on_any_port(open_replica: Replica) -> None:
    statuses = await statuses_of(open_replica, [[name] for name in LOOPBACK_NAMES])
    assert {name: status for name, status in statuses.items() if status != 200} == {}


async def test_every_other_name_is_403(open_replica: Replica) -> None:
    statuses = await statuses_of(open_replica, [[name] for name in OTHER_NAMES])
    assert {name: status for name, status in statuses.items() if status != 403} == {}


async def test_of_several_names_each_must_be_a_loopback_name(open_replica: Replica) -> None:
    hosts = [["localhost", "evil.example"], ["evil.example", "localhost"], ["localhost", "localhost", "evil.example"]]
    statuses = await statuses_of(open_replica, hosts)
    assert set(statuses.values()) == {403}


async def test_a_request_without_a_host_is_served(open_replica: Replica) -> None:
    async with raw_connection(open_replica) as (reader, writer):
        writer.write(f"GET {METRICS} HTTP/1.0\r\n\r\n".encode())
        assert (await read_answer(reader)).status == 200


async def test_a_container_that_uses_another_name_is_told_what_to_set(client: httpx2.AsyncClient) -> None:
    answer = await client.get(STATS, headers={"Host": "host.docker.internal:8000"})
    for word in ("host.docker.internal", "VAPI_WEBHOOK_SECRET", "API_READ_TOKENS", "ALLOW_UNAUTHENTICATED=1"):
        assert word in answer.json()["error"]


async def test_the_address_that_it_listens_on_is_its_own_name(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica(host="127.0.0.1")
    statuses = await statuses_of(replica, [[f"127.0.0.1:{replica.port}"]])
    assert set(statuses.values()) == {200}
