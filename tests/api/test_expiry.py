"""What is left when a record's or a tombstone's life is over: nothing, anywhere. All of them wait in one go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx2
import pytest

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import connected, deliver, list_calls, new_call_id, stats_of
from tests.support.vapi_sender import full_report, status_update

PHONE: Final = "+18645550133"
RECORD, DELETED, RUNNING = new_call_id(), new_call_id(), new_call_id()


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    """A result lives for long enough to be looked at on a busy machine; a call that runs, for longer than the tests."""
    replica = Replica(result_ttl_s=5, pending_ttl_s=600).start()
    yield replica
    replica.stop()


@pytest.fixture(scope="module", autouse=True)
def etags(replica: Replica) -> dict[str, str]:
    """Begins the lives that the tests see the end of; the ETags of the records."""
    with httpx2.Client(base_url=replica.url, timeout=PATIENCE_S, trust_env=False, verify=False) as client:
        client.post(WEBHOOK, json=status_update("in-progress", RUNNING))
        client.post(WEBHOOK, json=full_report(RECORD, customer={"number": PHONE}))
        client.delete(CALLS + DELETED)
        answers = {call_id: client.get(CALLS + call_id) for call_id in (RECORD, DELETED, RUNNING)}
    assert [answer.status_code for answer in answers.values()] == [200, 404, 200]
    return {call_id: answers[call_id].headers["etag"] for call_id in (RECORD, RUNNING)}


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(replica) as connection:
        yield connection


async def until_record_is_gone(client: httpx2.AsyncClient) -> None:
    async def is_gone() -> bool:
        return (await client.get(CALLS + RECORD)).status_code == 404

    await eventually(is_gone)


async def test_a_record_is_gone_when_its_life_is_over(client: httpx2.AsyncClient) -> None:
    await until_record_is_gone(client)
    assert (await client.get(CALLS + RECORD, params={"wait": "0"})).status_code == 202


async def test_an_expired_call_is_listed_no_more(client: httpx2.AsyncClient) -> None:
    async def is_unlisted() -> bool:
        listed = (await list_calls(client, PHONE)).json()
        entries = (await stats_of(client))["entries"]
        return (listed["count"], listed["data"]) == (0, []) and RECORD not in [one["callId"] for one in entries]

    await eventually(is_unlisted)


async def test_a_tombstone_lasts_as_long_as_a_result_would(client: httpx2.AsyncClient) -> None:
    async def is_unknown_again() -> bool:
        return (await client.get(CALLS + DELETED, params={"wait": "0"})).status_code == 202

    await eventually(is_unknown_again)


async def test_a_running_call_outlives_a_finished_one(client: httpx2.AsyncClient, etags: dict[str, str]) -> None:
    await until_record_is_gone(client)
    await deliver(client, status_update("in-progress", RUNNING))
    answer = await client.get(CALLS + RUNNING)
    assert answer.headers["etag"] == etags[RUNNING], "a record that began anew would have another"


async def test_a_records_successor_has_another_etag(client: httpx2.AsyncClient, etags: dict[str, str]) -> None:
    await until_record_is_gone(client)
    await deliver(client, full_report(RECORD))
    assert (await client.get(CALLS + RECORD)).headers["etag"] != etags[RECORD]
