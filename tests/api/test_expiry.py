"""What is left when a record's or a tombstone's life is over: nothing, anywhere. All of them wait in one go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.replica import Replica
from tests.support.routes import BY_PHONE, CALLS, STATS, WEBHOOK
from tests.support.service_api import deliver, new_call_id
from tests.support.vapi_sender import full_report, status_update

PHONE: Final = "+18645550133"
RECORD, DELETED, RUNNING = new_call_id(), new_call_id(), new_call_id()


@pytest.fixture(scope="module", autouse=True)
def etag(brief_replica: Replica) -> Iterator[str]:
    """Begins the lives that the tests see the end of; the ETag of the record."""
    with httpx2.Client(base_url=brief_replica.url, trust_env=False, verify=False) as client:
        client.post(WEBHOOK, json=full_report(RECORD, customer={"number": PHONE}))
        client.post(WEBHOOK, json=status_update("in-progress", RUNNING))
        client.delete(CALLS + DELETED)
        answers = [client.get(CALLS + call_id, params={"wait": "0"}) for call_id in (RECORD, DELETED, RUNNING)]
        assert [answer.status_code for answer in answers] == [200, 404, 202]
        yield answers[0].headers["etag"]


async def test_a_record_is_gone_when_its_life_is_over(brief_client: httpx2.AsyncClient) -> None:
    async def is_gone() -> bool:
        return (await brief_client.get(CALLS + RECORD)).status_code == 404

    await eventually(is_gone)
    assert (await brief_client.get(CALLS + RECORD, params={"wait": "0"})).status_code == 202


async def test_an_expired_call_is_listed_no_more(brief_client: httpx2.AsyncClient) -> None:
    async def is_unlisted() -> bool:
        listed = (await brief_client.get(BY_PHONE + PHONE)).json()
        entries = (await brief_client.get(STATS)).json()["stats"]["entries"]
        return (listed["count"], listed["data"]) == (0, []) and RECORD not in [one["callId"] for one in entries]

    await eventually(is_unlisted)


async def test_a_tombstone_lasts_as_long_as_a_result_would(brief_client: httpx2.AsyncClient) -> None:
    async def is_unknown_again() -> bool:
        return (await brief_client.get(CALLS + DELETED, params={"wait": "0"})).status_code == 202

    await eventually(is_unknown_again)


async def test_a_running_call_outlives_a_finished_one(brief_client: httpx2.AsyncClient) -> None:
    async def is_gone() -> bool:
        return (await brief_client.get(CALLS + RECORD)).status_code == 404

    await eventually(is_gone)
    await deliver(brief_client, status_update("in-progress", RUNNING))
    assert (await brief_client.get(CALLS + RUNNING)).json()["data"]["version"] == 1


async def test_a_records_successor_has_another_etag(brief_client: httpx2.AsyncClient, etag: str) -> None:
    async def is_gone() -> bool:
        return (await brief_client.get(CALLS + RECORD)).status_code == 404

    await eventually(is_gone)
    await deliver(brief_client, full_report(RECORD))
    assert (await brief_client.get(CALLS + RECORD)).headers["etag"] != etag
