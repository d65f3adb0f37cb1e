"""What each flow makes of its input ``service_url``, on Kestra's own engine: a slash too many, and a wrong address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.kestra_engine.house import TOKEN, House, changed, shipped
from tests.support.call_requests import FULL
from tests.support.fake_vapi_server import LoopbackServer, Reply
from tests.support.strangers import NO_PAGE, NO_ROUTE, NO_SUCCESS, NOT_ALLOWED, PAGE, stand_in, stranger
from tests.support.vapi_sender import full_report

WAYS = ("wait_loop", "wait_long_poll", "wait_events", "wait_pause_resume")
INPUTS: dict[str, dict[str, Any]] = {
    "call_provider": {"request": FULL},
    "call_providers": {"requests": [FULL]},
    **{flow: {"call_id": "call-1"} for flow in WAYS},
}
"""Of every flow, beside its ``service_url``."""

WRONG_ADDRESS = "the address is probably wrong. Check the input service_url"
LAST_LINE = "check the input service_url and the secret VAPI_CACHE_TOKEN"
NO_RECORD = "will have no record: it was deleted, or VAPI does not know it"


@contextmanager
def serving(server: LoopbackServer) -> Iterator[LoopbackServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def run_all(house: House, flows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """The last state of every flow, and what it warned of."""
    executions = {flow: await house.start(flow, **inputs) for flow, inputs in flows.items()}
    return {
        flow: (await house.end(execution), await house.log_with(execution, LAST_LINE))
        for flow, execution in executions.items()
    }


def without_a_hint(ends: dict[str, tuple[str, str]], address: str) -> dict[str, tuple[str, str]]:
    """Those that did not fail with the words that help, or with others besides."""
    hint = f"{WRONG_ADDRESS}, {address}"
    return {
        flow: (state, log)
        for flow, (state, log) in ends.items()
        if state != "FAILED" or hint not in log or NO_RECORD in log or "output values" in log
    }


@pytest.mark.parametrize(
    ("to_get", "to_post"),
    [(NO_PAGE, None), (NO_ROUTE, None), (NO_SUCCESS, None), (PAGE, None), (NO_PAGE, NOT_ALLOWED)],
    ids=["no page", "no route", "no success", "a page", "no page, no POST"],
)
async def test_a_wrong_address_fails_every_flow_and_it_names_the_input(
    house: House, to_get: Reply, to_post: Reply | None
) -> None:
    with serving(stranger(to_get, to_post)) as server:
        house.service_url = server.url
        assert without_a_hint(await run_all(house, INPUTS), server.url) == {}


async def test_a_wrong_path_at_this_service_is_a_wrong_address(house: House) -> None:
    house.service_url = f"{house.a.url}/api"
    assert without_a_hint(await run_all(house, INPUTS), house.service_url) == {}
    assert house.vapi.requests.count(("POST", "/call")) == 0


async def test_a_stranger_that_answers_a_poll_after_the_call_was_placed_is_told_apart(house: House) -> None:
    """As a proxy does that has lost its way to the service."""
    with serving(stand_in(poll=NO_PAGE)) as server:
        house.service_url = server.url
        placing = {flow: INPUTS[flow] for flow in ("call_provider", "call_providers")}
        assert without_a_hint(await run_all(house, placing), server.url) == {}


async def test_slashes_at_the_end_of_the_address_change_nothing(house: House) -> None:
    pausing = changed("wait_pause_resume", "pause_for_seconds", ("wait_minutes }}M", "wait_minutes }}S"))
    await house.add_flow("pause_for_seconds", pausing)
    inputs = {**INPUTS, "pause_for_seconds": {"call_id": "call-1", "wait_minutes": 2}}
    del inputs["wait_pause_resume"]
    for slashes in ("/", "///"):
        with serving(stand_in()) as server:
            house.service_url = f"{server.url}/vapi-cache{slashes}"
            executions = [await house.start(flow, **inputs[flow]) for flow in inputs]
            assert {await house.end(execution) for execution in executions} == {"SUCCESS"}
        paths = {request.path for request in server.received}
        assert paths == {
            f"/vapi-cache/api/v1/vapi/calls{rest}"
            for rest in ("", "/batch", "/call-1", "/call-1/subscriptions", "/call-1/events")
        }


async def test_the_services_own_404_means_that_there_will_be_no_record(house: House) -> None:
    await house.send(full_report("deleted"))
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        answer = await client.delete(house.a.url + "/api/v1/vapi/calls/deleted")
    assert answer.status_code == 200
    ends = await run_all(house, {flow: {"call_id": "deleted"} for flow in WAYS})
    assert {flow: state for flow, (state, _) in ends.items()} == dict.fromkeys(WAYS, "FAILED")
    for flow, (_, log) in ends.items():
        assert f"Call deleted {NO_RECORD}" in log, flow
        assert WRONG_ADDRESS not in log, flow


@pytest.mark.parametrize("flow", sorted(INPUTS))
async def test_an_address_where_nobody_listens_fails_the_flow_and_it_names_the_input(house: House, flow: str) -> None:
    """In fewer attempts than the flow that we ship makes."""
    name = f"{flow}_in_vain"
    first_attempts = re.findall(r"maxAttempts: \d+", shipped(flow))[0]
    await house.add_flow(name, changed(flow, name, (first_attempts, "maxAttempts: 2")))
    execution = await house.start(name, service_url="http://127.0.0.1:9", **INPUTS[flow])
    assert await house.end(execution) == "FAILED"
    log = await house.log_with(execution, "check the input service_url")
    assert "http://127.0.0.1:9 failed" in log
    assert "check the input service_url" in log
    assert "output values" not in log


async def test_an_address_without_a_scheme_is_refused_before_anything_runs(house: House) -> None:
    parts = {"call_id": (None, "call-1"), "service_url": (None, "vapi-cache:8000")}
    answer = await house.http.post("/api/v1/main/executions/ai_concierge/wait_loop", files=parts)
    assert (answer.status_code, "service_url" in answer.text) == (422, True)
