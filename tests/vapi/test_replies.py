"""The types that a live call waits on get the body VAPI takes for "not handled here"; all others get none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from service.vapi.messages import decode_message
from service.vapi.replies import NOT_HANDLED, find_reply
from tests.support.for_each import for_each
from tests.support.vapi_sender import message, sample_bytes, sample_names


def reply_to(body: dict[str, Any]) -> Any:
    reply = find_reply(decode_message(msgspec.json.encode(body)).message)
    assert reply is not None
    assert reply.content_type == b"application/json"
    return json.loads(reply.body)


@for_each("call_id", ["call-1", None])
@for_each(
    ("type_", "answer"),
    [
        ("assistant-request", {"error": NOT_HANDLED}),
        ("transfer-destination-request", {"error": NOT_HANDLED}),
        ("handoff-destination-request", {"error": NOT_HANDLED}),
        ("knowledge-base-request", {"documents": []}),
        ("call.endpointing.request", {"timeoutSeconds": 0.4}),
        ("campaign.predial", {"eligible": False}),
        ("function-call", {"result": NOT_HANDLED}),
        ("tool-calls", {"results": []}),
    ],
)
def test_a_message_that_waits_for_an_answer_gets_the_one_of_its_type(
    type_: str, answer: dict[str, Any], call_id: str | None
) -> None:
    assert reply_to(message(type_, call_id)) == answer


def test_a_voice_request_gets_silence_and_no_json() -> None:
    reply = find_reply(decode_message(msgspec.json.encode(message("voice-request"))).message)
    assert reply is not None
    assert (reply.body, reply.content_type) == (b"", b"application/octet-stream")


@for_each(
    "body",
    [*map(sample_bytes, sample_names()), b'{"message":{"type":""}}', b'{"message":{"type":"Tool-Calls"}}'],
)
def test_all_other_messages_get_no_reply_of_their_own(body: bytes) -> None:
    assert find_reply(decode_message(body).message) is None


@pytest.mark.parametrize("name", ["toolCallList", "toolCalls"])
def test_each_tool_call_gets_a_result_in_order(name: str) -> None:
    calls = [
        {"id": "call_1", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": '{"a":1}'}},
    ]
    assert reply_to({"message": {"type": "tool-calls", name: calls}}) == {
        "results": [{"toolCallId": call_id, "error": NOT_HANDLED} for call_id in ("call_1", "call_2")]
    }


def test_a_tool_call_that_stands_in_both_lists_gets_one_result() -> None:
    calls = [{"id": "call_1"}]
    assert len(reply_to(message("tool-calls", toolCallList=calls, toolCalls=calls))["results"]) == 1


@for_each("list_", [None, [], {}, "text", [5], [{}], [{"id": None}], [{"id": 5}]])
def test_without_a_usable_first_list_the_second_serves(list_: object) -> None:
    answer = reply_to(message("tool-calls", toolCallList=list_, toolCalls=[{"id": "call_1"}]))
    assert [result["toolCallId"] for result in answer["results"]] == ["call_1"]


def test_a_tool_call_may_stand_inside_its_tool() -> None:
    tools = [
        {"type": "function", "toolCall": {"id": "call_1"}},
        {"name": "f", "toolCall": {"id": 5}},
        {"toolCall": None},
    ]
    answer = reply_to(message("tool-calls", toolCallList=[{"id": "call_2"}], toolWithToolCallList=tools))
    assert [result["toolCallId"] for result in answer["results"]] == ["call_2", "call_1"]


@pytest.mark.parametrize("number", ["1e400", "-1e999", "9" * 5000])
def test_a_number_beyond_a_double_keeps_no_live_call_waiting(number: str) -> None:
    for calls in (
        f'[{number},{{"id":"a","function":{{"arguments":{{"x":{number}}}}}}}]',
        f'[{{"id":"a","x":{number}}}]',
    ):
        body = f'{{"message":{{"type":"tool-calls","toolCallList":{calls}}}}}'.encode()
        reply = find_reply(decode_message(body).message)
        assert reply is not None
        assert json.loads(reply.body)["results"] == [{"toolCallId": "a", "error": NOT_HANDLED}], calls


def test_tool_calls_of_odd_shape_are_left_out() -> None:
    answer = reply_to(message("tool-calls", toolCallList=[None, 5, "x", [], {"id": "call_1"}, {"name": "f"}]))
    assert answer == {"results": [{"toolCallId": "call_1", "error": NOT_HANDLED}]}


def test_what_a_tool_is_told_is_one_line() -> None:
    assert "\n" not in NOT_HANDLED
