"""Strangers who are refused leave a line a minute and address in the log, however often they come."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.api.client_address import ClientAddresses
from service.api.limits import ADDRESSES_REMEMBERED, REFUSALS_LOGGED_EVERY_S, RefusalLog
from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.routes import STATS, WEBHOOK
from tests.support.service_api import CREDENTIALS, PROOF, READER, connected, new_address, new_call_id
from tests.support.vapi_sender import sign, status_update

TIMES = 100


def scope_of(address: str) -> dict[str, Any]:
    return {"client": (address, 1), "named_headers": {}, "log": {}}


@pytest.fixture
def refusals() -> RefusalLog:
    return RefusalLog(ClientAddresses("127.0.0.1"))


def test_the_next_line_says_how_many_were_left_out(refusals: RefusalLog) -> None:
    assert refusals.admit(scope_of("198.51.100.1"), 0.0)
    for _ in range(7):
        assert not refusals.admit(scope_of("198.51.100.1"), REFUSALS_LOGGED_EVERY_S - 1)
    later = scope_of("198.51.100.1")
    assert refusals.admit(later, REFUSALS_LOGGED_EVERY_S)
    assert later["log"] == {"address": "198.51.100.1", "left_out": 7}


def test_addresses_do_not_silence_one_another(refusals: RefusalLog) -> None:
    assert all(refusals.admit(scope_of(f"198.51.100.{i}"), 0.0) for i in range(50))


def test_no_more_than_ten_thousand_addresses_are_remembered(refusals: RefusalLog) -> None:
    for number in range(ADDRESSES_REMEMBERED + 500):
        refusals.admit(scope_of(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"), 0.0)
    assert len(refusals._last) == ADDRESSES_REMEMBERED


@pytest.fixture(scope="module")
def closed() -> Iterator[Replica]:
    replica = Replica(**CREDENTIALS).start()
    yield replica
    replica.stop()


def lines_about(replica: Replica, address: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, replica.log.splitlines()) if line.get("address") == address]


async def flush(replica: Replica) -> int:
    """Wait for the line of one more request; returns how many lines there are by then."""
    request_id = f"last-{uuid.uuid4()}"
    async with connected(replica, **READER) as client:
        await client.get("/", headers={"X-Request-ID": request_id})

    async def is_there() -> bool:
        return request_id in replica.log

    await eventually(is_there)
    return len(replica.log.splitlines())


@pytest.mark.parametrize(
    ("method", "path", "headers", "events"),
    [
        ("POST", WEBHOOK, {}, ["webhook.unauthorized", "request.finished"]),
        ("POST", WEBHOOK, {"X-Vapi-Secret": "wrong"}, ["webhook.unauthorized", "request.finished"]),
        ("POST", WEBHOOK, sign(b"another", "wrong"), ["webhook.unauthorized", "request.finished"]),
        ("POST", WEBHOOK, {"Content-Encoding": "gzip"}, ["request.finished"]),
        ("GET", STATS, {}, ["request.finished"]),
        ("GET", STATS, {"Authorization": "Bearer wrong"}, ["request.finished"]),
        ("GET", "/nowhere", {}, ["request.finished"]),
        ("PUT", WEBHOOK, {}, ["request.finished"]),
        ("GET", "/a%2fb", {}, ["request.finished"]),
        ("GET", "/", {}, ["request.finished"]),
        ("GET", "/ops", {}, ["request.finished"]),
        ("GET", "/ops/ops.js", {}, ["request.finished"]),
    ],
)
async def test_a_hundred_requests_of_a_stranger_leave_the_lines_of_one(
    closed: Replica, method: str, path: str, headers: dict[str, str], events: list[str]
) -> None:
    address = new_address()
    before = await flush(closed)
    async with connected(closed, **{"X-Forwarded-For": address}) as client:
        for _ in range(TIMES):
            await client.request(method, path, headers=headers, content=b"{}")
    assert await flush(closed) - before == len(events) + 1
    assert [line["event"] for line in lines_about(closed, address)] == events


async def test_who_proves_himself_leaves_every_line_also_at_a_strangers_address(closed: Replica) -> None:
    address = new_address()
    async with connected(closed, **{"X-Forwarded-For": address}) as client:
        for _ in range(5):
            await client.post(WEBHOOK, content=b"{}")
        before = await flush(closed)
        for _ in range(10):
            body = json.dumps(status_update("queued", new_call_id())).encode()
            await client.post(WEBHOOK, content=body, headers=PROOF)
            await client.post(WEBHOOK, content=body, headers=sign(body, CREDENTIALS["VAPI_WEBHOOK_SECRET"]))
            await client.post(WEBHOOK, content=b"no json", headers=PROOF)
            await client.get("/nowhere", headers=READER)
    assert await flush(closed) - before == 40 + 1


async def test_in_open_mode_other_names_leave_one_line(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    before = await flush(replica)
    async with connected(replica, Host="evil.example") as client:
        for _ in range(TIMES):
            assert (await client.get(STATS)).status_code == 403
    assert await flush(replica) - before == 2
