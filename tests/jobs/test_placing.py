"""Placing a call with VAPI: what it is asked for, what stands in the record, what is refused before anybody is phoned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.errors import (
    InvalidRequestError,
    NotConfiguredError,
    PaymentRequiredError,
    ServiceError,
    StoreUnavailableError,
    TooManyRequestsError,
    UpstreamError,
)
from tests.support.fake_vapi import FakeVapi
from tests.support.placing_service import A_REQUEST, Desk, a_request, opened_desk
from tests.support.store_events import record

DIALLED = [("POST", "/call")]


@pytest.fixture
async def desk(vapi: FakeVapi) -> AsyncIterator[Desk]:
    async with opened_desk(**vapi.settings) as opened:
        yield opened


async def test_the_caller_is_told_the_call_that_vapi_made(vapi: FakeVapi, desk: Desk) -> None:
    placed = await desk.placing.place(a_request())
    assert (placed.call_id, placed.status, placed.method) == (next(iter(vapi.calls)), "queued", "vapi")
    assert desk.results == [("vapi", "placed")]


async def test_vapi_is_asked_once_for_this_number_with_the_whole_assistant(vapi: FakeVapi, desk: Desk) -> None:
    await desk.placing.place(a_request(providerName="N" * 60))
    assert vapi.requests == DIALLED
    [order] = [request.json for request in vapi.received]
    assert order.keys() == {"assistant", "phoneNumberId", "customer", "metadata"}
    assert order["customer"] == {"number": A_REQUEST["providerPhone"], "name": "N" * 40}
    assert order["phoneNumberId"] == vapi.phone_number_id
    assert order["assistant"]["serverMessages"] == ["end-of-call-report", "status-update"]
    assert order["metadata"] == {**A_REQUEST, "providerName": "N" * 60}


async def test_the_record_is_there_as_soon_as_vapi_has_answered(desk: Desk) -> None:
    placed = await desk.placing.place(a_request())
    assert_record_is_filled(await record(desk.store, str(placed.call_id)))


async def test_what_vapi_does_not_repeat_stands_in_the_record_all_the_same(vapi: FakeVapi, desk: Desk) -> None:
    vapi.answer_next(201, {"id": "call-9", "status": "queued"})
    await desk.placing.place(a_request())
    assert_record_is_filled(await record(desk.store, "call-9"))


def assert_record_is_filled(call: dict[str, Any]) -> None:
    assert (call["status"], call["data_status"]) == ("queued", "pending")
    assert (call["customer_phone"], call["provider_phone"]) == (A_REQUEST["providerPhone"],) * 2
    assert (call["provider_name"], call["service_type"]) == (A_REQUEST["providerName"], A_REQUEST["serviceNeeded"])
    assert (call["location"], call["urgency"]) == (A_REQUEST["location"], A_REQUEST["urgency"])
    assert (call["user_criteria"], call["service_request_id"]) == (A_REQUEST["userCriteria"], "request-42")
    assert call["metadata"] == A_REQUEST
    assert call["phone_number_id"] is not None


async def test_a_call_that_vapi_schedules_is_scheduled(vapi: FakeVapi, desk: Desk) -> None:
    vapi.answer_next(201, {"id": "call-9", "status": "scheduled"})
    assert (await desk.placing.place(a_request())).status == "scheduled"


@pytest.mark.parametrize("answer", [{}, {"status": None}, {"status": "not-found"}], ids=repr)
async def test_a_call_whose_status_vapi_does_not_tell_is_queued(
    vapi: FakeVapi, desk: Desk, answer: dict[str, Any]
) -> None:
    vapi.answer_next(201, {"id": "call-9", **answer})
    assert (await desk.placing.place(a_request())).status == "queued"
    assert_record_is_filled(await record(desk.store, "call-9"))


@pytest.mark.parametrize(
    ("status", "error", "result"),
    [
        (400, InvalidRequestError, "refused"),
        (402, PaymentRequiredError, "refused"),
        (429, TooManyRequestsError, "refused"),
        (401, UpstreamError, "failed"),
        (503, UpstreamError, "failed"),
        (500, UpstreamError, "unknown"),
    ],
)
async def test_what_vapi_refuses_is_told_and_not_tried_again(
    vapi: FakeVapi, desk: Desk, status: int, error: type[ServiceError], result: str
) -> None:
    vapi.refuse_next(status)
    with pytest.raises(error):
        await desk.placing.place(a_request())
    assert (vapi.requests, desk.results) == (DIALLED, [("vapi", result)])
    assert (await desk.store.scan(newest=10)).size == 0


async def test_an_answer_that_is_no_call_leaves_the_outcome_unknown(vapi: FakeVapi, desk: Desk) -> None:
    vapi.answer_next(201, {"id": "../call"})
    with pytest.raises(UpstreamError) as trouble:
        await desk.placing.place(a_request())
    assert (trouble.value.is_outcome_unknown, desk.results) == (True, [("vapi", "unknown")])


@pytest.mark.parametrize("key", ["key-1", None])
async def test_nobody_is_phoned_while_redis_is_away(vapi: FakeVapi, key: str | None) -> None:
    async with opened_desk("redis://127.0.0.1:1", **vapi.settings, STORE_TIMEOUT_S="0.2") as desk:
        with pytest.raises(StoreUnavailableError):
            await desk.placing.place(a_request(), key=key)
    assert (vapi.requests, desk.results) == ([], [("vapi", "failed")])


@pytest.mark.parametrize("prefixes", ["+49", "+18641234568,+1999", "+186412345678"])
async def test_a_number_that_may_not_be_dialled_is_refused_without_quoting_it(vapi: FakeVapi, prefixes: str) -> None:
    async with opened_desk(**vapi.settings, CALL_ALLOWED_PREFIXES=prefixes) as desk:
        with pytest.raises(InvalidRequestError) as refused:
            await desk.placing.place(a_request())
    assert [detail.path for detail in refused.value.details] == ["$.providerPhone"]
    assert "864" not in str(refused.value)
    assert vapi.requests == []


@pytest.mark.parametrize("prefixes", ["+1", "+49,+1864", A_REQUEST["providerPhone"]])
async def test_a_number_that_begins_as_allowed_is_dialled(vapi: FakeVapi, prefixes: str) -> None:
    async with opened_desk(**vapi.settings, CALL_ALLOWED_PREFIXES=prefixes) as desk:
        await desk.placing.place(a_request())
    assert vapi.requests == DIALLED


@pytest.mark.parametrize("variable", ["VAPI_API_KEY", "VAPI_PHONE_NUMBER_ID"])
async def test_the_variable_that_is_missing_is_named(vapi: FakeVapi, variable: str) -> None:
    settings = {name: value for name, value in vapi.settings.items() if name != variable}
    async with opened_desk(**settings) as desk:
        with pytest.raises(NotConfiguredError, match=variable):
            await desk.placing.place(a_request())
    assert vapi.requests == []
