"""Messages that a live call waits on: the valid "not handled here" body of each type, and the context kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.eventually import eventually
from tests.support.redis_server import RedisProcess
from tests.support.replica import Replica
from tests.support.routes import CALLS, WEBHOOK
from tests.support.service_api import connected, deliver, new_call_id
from tests.support.vapi_sender import message

TOOL_CALLS = [{"id": "tool-1", "type": "function"}, {"id": "tool-2"}]


@pytest.mark.parametrize("type_", ["assistant-request", "transfer-destination-request", "handoff-destination-request"])
async def test_a_request_for_a_destination_or_assistant_gets_an_error_it_can_speak(
    client: httpx2.AsyncClient, type_: str
) -> None:
    answer = await client.post(WEBHOOK, json=message(type_, None))
    assert answer.status_code == 200
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("field", ["toolCallList", "toolCalls"])
async def test_each_tool_call_gets_a_result_of_its_own_on_one_line(client: httpx2.AsyncClient, field: str) -> None:
    body = message("tool-calls", new_call_id())
    body["message"][field] = TOOL_CALLS
    answer = await client.post(WEBHOOK, json=body)
    results = answer.json()["results"]
    assert [result["toolCallId"] for result in results] == ["tool-1", "tool-2"]
    assert all("\n" not in result["error"] for result in results)


@pytest.mark.parametrize("odd", [None, "x", [None, {"id": 7}, "y"], {}])
async def test_tool_calls_of_an_odd_shape_are_answered_all_the_same(client: httpx2.AsyncClient, odd: Any) -> None:
    answer = await client.post(WEBHOOK, json=message("tool-calls", new_call_id(), toolCallList=odd))
    assert (answer.status_code, answer.json()) == (200, {"results": []})


async def test_a_knowledge_base_request_gets_no_documents(client: httpx2.AsyncClient) -> None:
    answer = await client.post(WEBHOOK, json=message("knowledge-base-request", new_call_id()))
    assert (answer.status_code, answer.json()) == (200, {"documents": []})


async def test_an_endpointing_request_gets_a_timeout_within_what_vapi_takes(client: httpx2.AsyncClient) -> None:
    answer = await client.post(WEBHOOK, json=message("call.endpointing.request", new_call_id()))
    assert 0 <= answer.json()["timeoutSeconds"] <= 15


async def test_a_voice_request_gets_silence_and_not_json(client: httpx2.AsyncClient) -> None:
    answer = await client.post(WEBHOOK, json=message("voice-request", new_call_id(), text="Hello."))
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_context_of_a_message_that_was_replied_to_is_kept(client: httpx2.AsyncClient) -> None:
    call_id = new_call_id()
    await deliver(client, message("tool-calls", call_id, customer={"number": "+18645550166"}))

    async def is_kept() -> bool:
        answer = await client.get(CALLS + call_id)
        return answer.status_code == 200 and answer.json()["data"]["customer_phone"] == "+18645550166"

    await eventually(is_kept)


async def test_what_a_replied_message_told_is_usually_there_for_the_next_poll_of_any_replica(
    start_replica: Callable[..., Replica], redis_process: RedisProcess
) -> None:
    settings = {"redis_url": redis_process.url, "redis_key_prefix": new_call_id()}
    async with connected(start_replica(**settings)) as taking, connected(start_replica(**settings)) as polled:
        found = 0
        for number in range(300):
            await deliver(taking, message("tool-calls", f"call-{number}"))
            found += (await polled.get(CALLS + f"call-{number}")).status_code == 200
        assert found > 200, "on a busy machine a reply does not wait for every merge"
