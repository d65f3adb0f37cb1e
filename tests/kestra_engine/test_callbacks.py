"""A callback starts the flow that takes it, on Kestra's own engine, and the flow gives the record."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from service.calls.record import NOT_IN_SUMMARY
from tests.kestra_engine.house import CALLBACK_KEY, TOKEN, House
from tests.support.eventually import eventually
from tests.support.fake_vapi_webhooks import Plan
from tests.support.vapi_sender import status_update

FLOW = "on_call_finished"


async def started(house: House, call_id: str) -> str:
    async def is_started() -> bool:
        return bool(await house.find_started(FLOW, call_id))

    await eventually(is_started)
    [execution] = await house.find_started(FLOW, call_id)
    return execution


def without_nulls(value: Any) -> Any:
    """Kestra leaves members that are null out of what triggers get."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return value


@pytest.mark.short
async def test_the_flow_is_started_with_the_record_of_a_call_that_is_over(house: House) -> None:
    call_id = house.add_call()
    await house.subscribe(call_id, FLOW, CALLBACK_KEY)
    await house.run_call(call_id)
    execution = await started(house, call_id)
    assert await house.end(execution) == "SUCCESS"

    outputs = await house.outputs(execution)
    async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        record = (await client.get(f"{house.a.url}/api/v1/vapi/calls/{call_id}?view=summary")).json()["data"]
    assert outputs["call_result"] == without_nulls(record)
    assert not outputs["call_result"].keys() & {*NOT_IN_SUMMARY}
    said = [outputs[name] for name in ("call_id", "disqualified", "outcome", "retry")]
    assert said == [call_id, "false", "completed", ""]


async def test_a_call_that_was_deleted_fails_the_flow_and_it_says_so(house: House) -> None:
    call_id = house.add_call()
    await house.send(status_update("ringing", call_id))
    await house.subscribe(call_id, FLOW, CALLBACK_KEY)
    async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        await client.delete(f"{house.a.url}/api/v1/vapi/calls/{call_id}")
    execution = await started(house, call_id)
    assert await house.end(execution) == "FAILED"
    sentence = f"Call {call_id} will have no record: it was deleted, or VAPI does not know it"
    assert sentence in await house.log_with(execution, sentence)


async def test_what_is_no_callback_fails_the_flow_and_it_says_so(house: House) -> None:
    url = f"{house.engine.url}/api/v1/main/executions/webhook/ai_concierge/{FLOW}/{CALLBACK_KEY}"
    async with httpx2.AsyncClient(timeout=20) as client:
        answer = await client.post(url, json={"odd": "something else"})
    execution = answer.json()["id"]
    assert await house.end(execution) == "FAILED"
    sentence = "This is no callback of the service"
    assert sentence in await house.log_with(execution, sentence)


async def test_another_key_starts_nothing(house: House) -> None:
    call_id = house.add_call()
    await house.subscribe(call_id, FLOW, "another-key")
    await house.run_call(call_id, Plan())

    async def is_refused() -> bool:
        async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            texts = [(await client.get(replica.url + "/metrics")).text for replica in (house.a, house.b)]
        return any('vapi_callbacks_total{result="retried"} 1.0' in text for text in texts)

    await eventually(is_refused)
    assert await house.find_started(FLOW, call_id) == []
