"""A call's recording: on to a fresh link that VAPI gives for the call's id, and to nothing that a webhook said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.support.replica import Replica
from tests.support.routes import CALLS
from tests.support.service_api import ADMIN, CREDENTIALS, PROOF, READER, connected, deliver, new_call_id
from tests.support.traffic import open_client
from tests.support.vapi_sender import full_report


@pytest.fixture(scope="module")
def vapi() -> Iterator[FakeVapi]:
    fake = FakeVapi().start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def calling_replica(vapi: FakeVapi) -> Iterator[Replica]:
    replica = Replica(log_level="debug", **CREDENTIALS, **vapi.settings).start()
    yield replica
    replica.stop()


@pytest.fixture
async def reader(calling_replica: Replica) -> AsyncIterator[httpx2.AsyncClient]:
    async with connected(calling_replica, **READER) as client:
        yield client


async def recorded_call(vapi: FakeVapi) -> str:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    return call_id


def path_of(call_id: str) -> str:
    return f"{CALLS}{call_id}/recording"


async def test_a_recording_is_a_redirect_that_leads_to_it(vapi: FakeVapi, reader: httpx2.AsyncClient) -> None:
    answer = await reader.get(path_of(await recorded_call(vapi)))
    assert (answer.status_code, answer.content) == (302, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    async with open_client() as stranger:
        assert (await stranger.get(answer.headers["location"])).headers["content-type"] == "audio/wav"


async def test_each_link_is_fresh(vapi: FakeVapi, reader: httpx2.AsyncClient) -> None:
    path = path_of(await recorded_call(vapi))
    links = [(await reader.get(path)).headers["location"] for _ in range(2)]
    assert links[0] != links[1]


async def test_head_tells_the_same_without_more(vapi: FakeVapi, reader: httpx2.AsyncClient) -> None:
    assert (await reader.head(path_of(await recorded_call(vapi)))).status_code == 302


async def test_a_call_without_a_recording_has_none_whatever_a_webhook_said(
    vapi: FakeVapi, reader: httpx2.AsyncClient
) -> None:
    call_id = new_call_id()
    await deliver(reader, full_report(call_id, recordingUrl=f"{vapi.url}/trap"), **PROOF)
    answer = await reader.get(path_of(call_id))
    assert (answer.status_code, answer.json()) == (404, {"success": False, "error": "This call has no recording"})
    assert ("GET", "/trap") not in vapi.requests


@pytest.mark.parametrize(
    ("status", "location"),
    [(500, None), (401, None), (302, None), (302, "file:///etc/passwd"), (200, None)],
)
async def test_vapis_trouble_is_a_502(
    vapi: FakeVapi, reader: httpx2.AsyncClient, status: int, location: str | None
) -> None:
    vapi.answer_next(status, b"", headers={"location": location} if location else {})
    answer = await reader.get(path_of("call-1"))
    assert (answer.status_code, answer.json()["success"]) == (502, False)
    assert "retry-after" not in answer.headers


async def test_an_unreachable_vapi_is_a_502(vapi: FakeVapi, reader: httpx2.AsyncClient) -> None:
    vapi.go_away()
    answer = await reader.get(path_of("call-1"))
    vapi.come_back()
    assert (answer.status_code, answer.json()["error"]) == (502, "VAPI cannot be reached")


async def test_neither_the_link_nor_the_key_is_logged(
    vapi: FakeVapi, reader: httpx2.AsyncClient, calling_replica: Replica
) -> None:
    call_id = await recorded_call(vapi)
    signature = (await reader.get(path_of(call_id))).headers["location"].rpartition("=")[2]

    async def is_logged() -> bool:
        return call_id in calling_replica.log

    await eventually(is_logged)
    assert signature not in calling_replica.log
    assert vapi.api_key not in calling_replica.log


async def test_a_recording_needs_a_token_that_may_read(vapi: FakeVapi, calling_replica: Replica) -> None:
    asked = len(vapi.requests)
    async with connected(calling_replica) as stranger:
        assert (await stranger.get(path_of("call-1"))).status_code == 401
        assert (await stranger.get(path_of("call-1"), headers={"Authorization": "Bearer x"})).status_code == 401
        assert len(vapi.requests) == asked
        assert (await stranger.get(path_of("call-1"), headers=ADMIN)).status_code == 404


@pytest.mark.parametrize("call_id", ["a%20b", "..%2Fx", ".hidden", "x" * 129])
async def test_what_is_no_call_id_is_refused_unasked(vapi: FakeVapi, reader: httpx2.AsyncClient, call_id: str) -> None:
    asked = len(vapi.requests)
    assert (await reader.get(path_of(call_id))).status_code == 400
    assert len(vapi.requests) == asked


async def test_other_methods_are_not_allowed(reader: httpx2.AsyncClient) -> None:
    answer = await reader.post(path_of("call-1"), headers=ADMIN)
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_without_a_key_there_are_no_recordings(client: httpx2.AsyncClient) -> None:
    answer = await client.get(path_of("call-1"))
    assert (answer.status_code, "VAPI_API_KEY" in answer.json()["error"]) == (501, True)
