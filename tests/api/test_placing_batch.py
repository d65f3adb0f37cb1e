"""``POST /calls/batch``: one result per request in their order, none lost when one fails, a few at a time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.support.call_requests import calls_to, new_request
from tests.support.eventually import eventually
from tests.support.fake_vapi import FakeVapi
from tests.support.routes import BATCH, PLACE


async def test_each_request_has_its_result_in_order(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    requests = [new_request() for _ in range(12)]
    answer = await dialler.post(BATCH, json={"requests": requests})
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    for request, result in zip(requests, answer.json()["results"], strict=True):
        [call_id] = calls_to(vapi, request["providerPhone"])
        assert result == {"success": True, "data": {"call_id": call_id, "status": "queued", "method": "vapi"}}


async def test_one_that_fails_takes_no_other_with_it(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    good = [new_request(), new_request()]
    bad: list[Any] = [{}, None, "x", new_request(method="x"), new_request(method="kestra")]
    answer = await dialler.post(BATCH, json={"requests": [good[0], *bad, good[1]], "max_concurrent": 1})
    results = answer.json()["results"]
    assert [result["success"] for result in results] == [True, *[False] * len(bad), True]
    assert [len(calls_to(vapi, request["providerPhone"])) for request in good] == [1, 1]
    assert {"path": "$.requests[1].urgency", "message": "is required"} in results[1]["details"]
    assert [detail["path"] for detail in results[2]["details"]] == ["$.requests[2]"]
    assert [detail["path"] for detail in results[4]["details"]] == ["$.requests[4].method"]
    assert "KESTRA_URL" in results[5]["error"]
    assert "details" not in results[5]


async def test_what_vapi_refuses_is_the_result_of_that_request(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    vapi.refuse_next(402, "Pay first.")
    answer = await dialler.post(BATCH, json={"requests": [new_request(), new_request()], "max_concurrent": 1})
    first, second = answer.json()["results"]
    assert (first["success"], "Pay first." in first["error"], second["success"]) == (False, True, True)


async def test_a_request_may_name_a_method_of_its_own(dialler: httpx2.AsyncClient) -> None:
    requests = [new_request(), new_request(method="vapi")]
    answer = await dialler.post(BATCH, json={"requests": requests, "method": "kestra"})
    assert [result["success"] for result in answer.json()["results"]] == [False, True]


@pytest.mark.parametrize(
    ("batch", "paths"),
    [
        ({}, ["$.requests"]),
        ({"requests": []}, ["$.requests"]),
        ({"requests": {}}, ["$.requests"]),
        ({"requests": [{}] * 101}, ["$.requests"]),
        ({"requests": [{}], "max_concurrent": 0}, ["$.max_concurrent"]),
        ({"requests": [{}], "max_concurrent": 11}, ["$.max_concurrent"]),
        ({"requests": [{}], "max_concurrent": 1.5}, ["$.max_concurrent"]),
        ({"requests": [{}], "max_concurrent": True}, ["$.max_concurrent"]),
        ({"requests": [{}], "max_concurrent": "5"}, ["$.max_concurrent"]),
        ({"requests": [{}], "method": "x"}, ["$.method"]),
        ({"max_concurrent": 0, "method": []}, ["$.requests", "$.max_concurrent", "$.method"]),
        ([], ["$"]),
    ],
)
async def test_a_batch_that_is_none_is_400(dialler: httpx2.AsyncClient, batch: object, paths: list[str]) -> None:
    answer = await dialler.post(BATCH, json=batch)
    assert (answer.status_code, [detail["path"] for detail in answer.json()["details"]]) == (400, paths)


async def test_repeated_with_its_key_a_batch_phones_nobody_twice(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    requests = [new_request() for _ in range(3)]
    key = {"Idempotency-Key": f"batch-{requests[0]['providerPhone']}"}
    first = await dialler.post(BATCH, json={"requests": requests}, headers=key)
    second = await dialler.post(BATCH, json={"requests": requests}, headers=key)
    assert first.json() == second.json()
    assert [len(calls_to(vapi, request["providerPhone"])) for request in requests] == [1, 1, 1]


async def test_a_request_of_a_batch_has_the_batchs_key_and_its_place(dialler: httpx2.AsyncClient) -> None:
    requests = [new_request(), new_request()]
    key = f"places-{requests[0]['providerPhone']}"
    batch = await dialler.post(BATCH, json={"requests": requests}, headers={"Idempotency-Key": key})
    alone = await dialler.post(PLACE, json=requests[1], headers={"Idempotency-Key": f"{key}:1"})
    assert alone.json()["data"] == batch.json()["results"][1]["data"]


def has_received(vapi: FakeVapi, number: int) -> bool:
    return len(vapi.received) >= number


async def test_no_more_are_under_way_than_asked_for(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    requests = [new_request() for _ in range(6)]
    before = len(vapi.received)
    with vapi.holding_answers() as let_go:
        asking = asyncio.create_task(dialler.post(BATCH, json={"requests": requests, "max_concurrent": 2}))
        for arrived in (2, 4, 6):
            await eventually(partial(has_received, vapi, before + arrived))
            await asyncio.sleep(0.1)  # for one more, which must not come
            assert len(vapi.received) - before == arrived
            let_go()
    assert all(result["success"] for result in (await asking).json()["results"])


async def test_who_goes_away_leaves_nothing_half_done(vapi: FakeVapi, dialler: httpx2.AsyncClient) -> None:
    requests = [new_request() for _ in range(3)]
    key = {"Idempotency-Key": f"gone-{requests[0]['providerPhone']}"}
    with vapi.holding_answers():
        leaving = asyncio.create_task(dialler.post(BATCH, json={"requests": requests}, headers=key))
        await eventually(lambda: any(calls_to(vapi, request["providerPhone"]) for request in requests))
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await eventually(lambda: all(calls_to(vapi, request["providerPhone"]) for request in requests))

    async def is_answered() -> bool:
        answer = await dialler.post(BATCH, json={"requests": requests}, headers=key)
        return answer.status_code == 200 and all(result["success"] for result in answer.json()["results"])

    await eventually(is_answered)
    assert [len(calls_to(vapi, request["providerPhone"])) for request in requests] == [1, 1, 1]
