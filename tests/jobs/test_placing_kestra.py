"""Placing a call through Kestra: the flow is started with the call request, and never silently passed by."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.errors import ConflictError, InvalidRequestError, NotConfiguredError, UpstreamError
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.placing_service import A_REQUEST, Desk, a_request, opened_desk


def settings_of(kestra: FakeKestra) -> dict[str, str]:
    return {"KESTRA_URL": kestra.url, "KESTRA_ENABLED": "1"}


@pytest.fixture
async def desk(kestra: FakeKestra) -> AsyncIterator[Desk]:
    async with opened_desk(**settings_of(kestra)) as opened:
        yield opened


def created(kestra: FakeKestra) -> int:
    return sum(request.method == "POST" for request in kestra.requests)


async def test_the_flow_is_started_with_the_call_request(kestra: FakeKestra, desk: Desk) -> None:
    placed = await desk.placing.place(a_request(providerId="provider-7"))
    [execution] = kestra.executions.values()
    assert (execution.namespace, execution.flow) == ("ai_concierge", "call_provider")
    assert json.loads(execution.inputs["request"]) == {**A_REQUEST, "providerId": "provider-7"}
    assert execution.labels == {"service_request_id": "request-42", "provider_id": "provider-7"}
    assert (placed.call_id, placed.status, placed.execution_id) == (None, "queued", execution.id)
    assert desk.results == [("kestra", "placed")]


async def test_a_request_without_ids_has_no_labels(kestra: FakeKestra, desk: Desk) -> None:
    await desk.placing.place(a_request(serviceRequestId=None))
    [execution] = kestra.executions.values()
    assert execution.labels == {}


async def test_the_same_key_starts_the_flow_once(kestra: FakeKestra, desk: Desk) -> None:
    placed = [await desk.placing.place(a_request(), key="key-1") for _ in range(2)]
    assert placed[0] == placed[1]
    assert len(kestra.executions) == 1


@pytest.mark.parametrize(
    ("settings", "method", "posts"),
    [({"KESTRA_ENABLED": "1"}, None, 1), ({"KESTRA_ENABLED": "1"}, "vapi", 0), ({}, None, 0), ({}, "kestra", 1)],
)
async def test_the_request_says_which_way_or_the_setting_does(
    kestra: FakeKestra, settings: dict[str, str], method: Any, posts: int
) -> None:
    async with FakeVapi() as vapi, opened_desk(KESTRA_URL=kestra.url, **settings, **vapi.settings) as desk:
        await desk.placing.place(a_request(), method)
        assert (created(kestra), len(vapi.requests)) == (posts, 1 - posts)


async def test_a_kestra_that_is_not_well_is_told_and_not_passed_by(kestra: FakeKestra) -> None:
    async with FakeVapi() as vapi, opened_desk(**settings_of(kestra), **vapi.settings) as desk:
        kestra.answer_next(503, path_part="configs", times=5)
        with pytest.raises(UpstreamError) as trouble:
            await desk.placing.place(a_request(), key="key-1")
        assert (trouble.value.is_outcome_unknown, desk.results) == (False, [("kestra", "failed")])
        assert (created(kestra), vapi.requests) == (0, [])


@pytest.mark.parametrize("style", ["auto", "v1", "v2"])
@pytest.mark.parametrize(("status", "body"), [(404, None), (200, {"version": "develop"})])
async def test_a_kestra_that_does_not_tell_its_version_places_calls_all_the_same(
    kestra: FakeKestra, style: str, status: int, body: object
) -> None:
    async with opened_desk(**settings_of(kestra), KESTRA_API_STYLE=style) as desk:
        kestra.answer_next(status, body, path_part="configs")
        placed = await desk.placing.place(a_request())
    assert placed.execution_id in kestra.executions


async def test_a_key_whose_flow_was_not_started_is_free_again(kestra: FakeKestra, desk: Desk) -> None:
    kestra.answer_next(404, method="POST")
    with pytest.raises(UpstreamError):
        await desk.placing.place(a_request(), key="key-1")
    assert (await desk.placing.place(a_request(), key="key-1")).execution_id in kestra.executions


async def test_a_flow_that_may_have_been_started_keeps_the_key(kestra: FakeKestra, desk: Desk) -> None:
    kestra.cut_next(method="POST", is_done=True)
    with pytest.raises(UpstreamError):
        await desk.placing.place(a_request(), key="key-1")
    with pytest.raises(ConflictError):
        await desk.placing.place(a_request(), key="key-1")
    assert len(kestra.executions) == 1


async def test_without_kestra_its_variable_is_named() -> None:
    async with FakeVapi() as vapi, opened_desk(**vapi.settings) as desk:
        with pytest.raises(NotConfiguredError, match="KESTRA_URL"):
            await desk.placing.place(a_request(), "kestra")
        assert vapi.requests == []


async def test_a_number_that_may_not_be_dialled_does_not_come_to_kestra(kestra: FakeKestra) -> None:
    async with opened_desk(**settings_of(kestra), CALL_ALLOWED_PREFIXES="+49") as desk:
        with pytest.raises(InvalidRequestError):
            await desk.placing.place(a_request())
    assert kestra.requests == []
