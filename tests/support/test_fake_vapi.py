"""The fake VAPI is what VAPI's documentation and captures say: its API, and how it misbehaves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import pytest

from tests.support.eventually import PATIENCE_S, eventually
from tests.support.fake_vapi import ARTIFACTS, FakeVapi
from tests.support.fake_vapi_calls import NO_ANSWER
from tests.support.fake_vapi_webhooks import Plan

A_SILENCE = httpx2.Timeout(PATIENCE_S, read=0.7)
"""For a request that is never answered: connecting and sending may take their time."""

SILENT: Final = Plan(is_silent=True)


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


@pytest.fixture
async def http(vapi: FakeVapi) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody with the key."""
    headers = {"Authorization": f"Bearer {vapi.api_key}"}
    async with httpx2.AsyncClient(
        base_url=vapi.url, headers=headers, timeout=PATIENCE_S, trust_env=False, verify=False
    ) as client:
        yield client


def order(vapi: FakeVapi, **fields: Any) -> dict[str, Any]:
    usual = {
        "assistant": {"name": "Caller"},
        "phoneNumberId": vapi.phone_number_id,
        "customer": {"number": "+18645550123"},
        "metadata": {"serviceRequestId": "r-1"},
    }
    return {**usual, **fields}


async def test_a_call_is_taken_kept_and_shown(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    placed = await http.post("/call", json=order(vapi))
    call = placed.json()
    limits = call.pop("subscriptionLimits")
    assert (placed.status_code, call["status"], call["metadata"]) == (201, "queued", {"serviceRequestId": "r-1"})
    assert limits == {"concurrencyBlocked": False, "concurrencyLimit": 1000, "remainingConcurrentCalls": 1000}
    assert (await http.get(f"/call/{call['id']}")).json() == call == vapi.calls[call["id"]]


async def test_a_call_for_later_is_scheduled(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    placed = await http.post("/call", json=order(vapi, schedulePlan={"earliestAt": "2030-01-01T00:00:00Z"}))
    assert placed.json()["status"] == "scheduled"


async def test_nobody_gets_in_without_the_key(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/call", json=order(vapi), headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["error"], vapi.calls) == (401, "Unauthorized", {})


@pytest.mark.parametrize(
    ("fields", "objection"),
    [
        ({"customer": {"number": "864-555-0123"}}, "E.164"),
        ({"customer": None}, "E.164"),
        ({"customer": {"number": "+18645550123", "name": "x" * 41}}, "customer.name must be shorter"),
        ({"customer": {"number": "+18645550123", "externalId": "x" * 41}}, "customer.externalId must be shorter"),
        ({"phoneNumberId": "another"}, "Couldn't Get Phone Number"),
        ({"assistant": None}, "Need Either `assistant`"),
        ({"assistantId": "another"}, "Couldn't Get Assistant"),
        ({"name": "x" * 41}, "name must be shorter"),
        ({"asistant": {}}, "property asistant should not exist"),
        ({"assistant": ["x"]}, "assistant.body must be an object"),
        ({"assistant": {"maxDurationSeconds": 9}}, "assistant.maxDurationSeconds must not be less than 10"),
        ({"assistant": {"maxDurationSeconds": "long"}}, "assistant.maxDurationSeconds"),
        ({"assistant": {"endCallPhrases": ["x"]}}, "assistant.endCallPhrases"),
        ({"assistant": {"server": {"uri": "x"}}}, "assistant.server.property uri should not exist"),
        ({"assistant": {"server": {"timeoutSeconds": 301}}}, "assistant.server.timeoutSeconds"),
        ({"assistant": {"server": {"backoffPlan": {"type": "fixed", "maxRetries": 11}}}}, "maxRetries"),
        ({"assistant": {"server": {"backoffPlan": {"type": "linear"}}}}, "backoffPlan.type must be one of"),
        (
            {"assistantOverrides": {"analysisPlan": {"summaryPlan": {"timeoutSeconds": 0}}}},
            "summaryPlan.timeoutSeconds",
        ),
    ],
)
async def test_what_vapi_objects_to_is_refused_in_its_words(
    vapi: FakeVapi, http: httpx2.AsyncClient, fields: dict[str, Any], objection: str
) -> None:
    answer = await http.post("/call", json=order(vapi, **fields))
    said = answer.json()
    assert (answer.status_code, said["error"], said["statusCode"]) == (400, "Bad Request", 400)
    assert any(objection in reason for reason in said["message"])
    assert vapi.calls == {}


async def test_a_body_that_is_no_json_is_refused(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/call", content=b"{")).json()["message"] == ["body must be an object"]
    assert (await http.post("/assistant", content=b"{")).status_code == 400


async def test_a_call_beyond_the_lines_is_blocked(http: httpx2.AsyncClient, vapi: FakeVapi) -> None:
    vapi.lines = 1
    await http.post("/call", json=order(vapi))
    blocked = await http.post("/call", json=order(vapi))
    assert (blocked.status_code, blocked.json()["subscriptionLimits"]["concurrencyBlocked"]) == (201, True)
    assert len(vapi.calls) == 1


async def test_a_call_that_ended_frees_its_line(http: httpx2.AsyncClient, vapi: FakeVapi) -> None:
    vapi.lines = 1
    await vapi.run_call(vapi.add_call(), plan=SILENT)
    placed = await http.post("/call", json=order(vapi))
    assert not placed.json()["subscriptionLimits"]["concurrencyBlocked"]


async def test_calls_are_listed_newest_first_by_the_filters(http: httpx2.AsyncClient, vapi: FakeVapi) -> None:
    ids = [vapi.add_call(phoneNumberId=number) for number in ("a", "a", "b")]
    for day, call_id in enumerate(ids):
        vapi.calls[call_id]["createdAt"] = f"2026-09-0{day + 1}T00:00:00.000Z"

    async def listed(**query: str) -> list[str]:
        return [call["id"] for call in (await http.get("/call", params=query)).json()]

    assert await listed() == [ids[2], ids[1], ids[0]]
    assert await listed(limit="1") == [ids[2]]
    assert await listed(phoneNumberId="a") == [ids[1], ids[0]]
    assert await listed(createdAtGt="2026-09-02T00:00:00.000Z") == [ids[2]]
    assert await listed(createdAtLt="2026-09-02T00:00:00.000Z", id=ids[0]) == [ids[0]]


async def test_a_deleted_call_is_gone(http: httpx2.AsyncClient, vapi: FakeVapi) -> None:
    call_id = vapi.add_call()
    assert (await http.delete(f"/call/{call_id}")).json()["id"] == call_id
    assert (await http.get(f"/call/{call_id}")).status_code == 404


async def test_a_saved_assistant_can_be_called_with_changed_and_deleted(
    http: httpx2.AsyncClient, vapi: FakeVapi
) -> None:
    made = (await http.post("/assistant", json={"name": "One"})).json()
    path = f"/assistant/{made['id']}"
    placed = await http.post("/call", json=order(vapi, assistant=None, assistantId=made["id"]))
    assert placed.status_code == 201
    assert (await http.patch(path, json={"name": "Two"})).json()["name"] == "Two"
    assert (await http.patch(path, json={"name": "x" * 41})).status_code == 400
    assert [assistant["name"] for assistant in (await http.get("/assistant")).json()] == ["Two"]
    await http.delete(path)
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("kind", ARTIFACTS)
async def test_a_recording_is_a_redirect_to_a_signed_link(http: httpx2.AsyncClient, vapi: FakeVapi, kind: str) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=SILENT)
    answer = await http.get(f"/call/{call_id}/{kind}")
    link = answer.headers["location"]
    async with httpx2.AsyncClient(trust_env=False, verify=False) as stranger:
        assert (answer.status_code, (await stranger.get(link)).status_code) == (302, 200)
        assert (await stranger.get(link + "0")).status_code == 403


async def test_a_call_that_never_connected_has_no_recording(http: httpx2.AsyncClient, vapi: FakeVapi) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(talk=NO_ANSWER, is_silent=True))
    assert (await http.get(f"/call/{call_id}/mono-recording")).status_code == 404


async def test_other_routes_are_not_there(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/squad")).status_code == 404


async def test_what_is_to_be_refused_is_refused_once_and_has_no_effect(
    vapi: FakeVapi, http: httpx2.AsyncClient
) -> None:
    vapi.refuse_next(402, "Wallet Balance is 0.", headers={"X-Why": "money"})
    answer = await http.post("/call", json=order(vapi))
    assert (answer.status_code, answer.json()["message"], answer.headers["x-why"]) == (
        402,
        "Wallet Balance is 0.",
        "money",
    )
    assert vapi.calls == {}
    assert (await http.post("/call", json=order(vapi))).status_code == 201


async def test_misbehaviour_can_wait_for_a_method(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    vapi.answer_next(200, b"as it is", method="POST")
    assert (await http.get("/call")).json() == []
    assert (await http.post("/call", json={})).content == b"as it is"


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_request_can_be_read_and_never_answered(
    vapi: FakeVapi, http: httpx2.AsyncClient, *, takes_effect: bool
) -> None:
    vapi.hang_next(takes_effect=takes_effect)
    with pytest.raises(httpx2.ReadTimeout):
        await http.post("/call", json=order(vapi), timeout=A_SILENCE)
    assert len(vapi.calls) == takes_effect
    assert vapi.requests == [("POST", "/call")]


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_connection_can_be_closed_in_place_of_an_answer(
    vapi: FakeVapi, http: httpx2.AsyncClient, *, takes_effect: bool
) -> None:
    vapi.break_next(takes_effect=takes_effect)
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/call", json=order(vapi))
    assert len(vapi.calls) == takes_effect


async def test_an_answer_can_be_cut(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    vapi.cut_next()
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/call", json=order(vapi))


async def test_it_can_be_slow(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    vapi.be_slow(2.0)
    with pytest.raises(httpx2.ReadTimeout):
        await http.get("/call", timeout=A_SILENCE)


async def test_its_answers_can_be_held_back(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    with vapi.holding_answers() as let_go:
        asking = asyncio.ensure_future(http.post("/call", json=order(vapi)))
        await eventually(lambda: len(vapi.calls) == 1)
        assert not asking.done()
        let_go()
        assert (await asking).status_code == 201


async def test_it_can_go_away_and_come_back_at_the_same_address(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    await http.get("/call")
    vapi.go_away()
    with pytest.raises(httpx2.ConnectError):
        await http.get("/call")
    vapi.come_back()
    assert (await http.get("/call")).status_code == 200


async def test_a_test_that_broke_its_state_is_told(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    vapi.calls["odd"] = {"status": "queued"}
    answer = await http.get("/call")
    assert (answer.status_code, "KeyError" in answer.json()["message"]) == (500, True)


async def test_a_phone_number_is_shown(vapi: FakeVapi, http: httpx2.AsyncClient) -> None:
    assert (await http.get(f"/phone-number/{vapi.phone_number_id}")).json()["id"] == vapi.phone_number_id
    assert (await http.get("/phone-number/nobodys")).status_code == 404
