"""The flows that place calls, on Kestra's own engine: nobody is phoned twice, and no result is lost."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.kestra_engine.engine import FLOWS
from tests.kestra_engine.house import House, changed
from tests.support.call_requests import FULL
from tests.support.fake_vapi_calls import NO_ANSWER, STRUCTURED_DATA, Talk
from tests.support.fake_vapi_webhooks import Plan

VOICEMAIL = Talk(
    ended_reason="voicemail",
    lines=(("user", "You have reached Acme Plumbing. Leave a message."), ("bot", "Hi, can somebody come this week?")),
)
SILENCE = Talk(ended_reason="silence-timed-out", lines=(("bot", "Hi, can somebody come this week?"),))


def placed(house: House) -> int:
    """How often VAPI was asked to phone somebody."""
    return house.vapi.requests.count(("POST", "/call"))


@pytest.mark.short
async def test_a_call_is_placed_and_waited_for(house: House) -> None:
    async with house.playing(Plan(step_s=0.3)):
        execution = await house.start("call_provider", request=FULL)
        assert await house.end(execution) == "SUCCESS"
    outputs = await house.outputs(execution)
    assert [outputs["call_id"]] == list(house.vapi.calls)
    assert (outputs["disqualified"], outputs["outcome"], outputs["retry"]) == ("false", "completed", "")
    record = outputs["call_result"]
    assert (record["data_status"], record["provider_name"], placed(house)) == ("complete", FULL["providerName"], 1)


async def test_a_call_without_an_analysis_is_not_called_qualified(house: House) -> None:
    async with house.playing(Plan(talk=NO_ANSWER)):
        execution = await house.start("call_provider", request=FULL)
        assert await house.end(execution) == "SUCCESS"
    outputs = await house.outputs(execution)
    assert (outputs["disqualified"], outputs["outcome"], outputs["retry"]) == ("unknown", "no_answer", "later")


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (VOICEMAIL, ("unknown", "voicemail", "later")),
        (SILENCE, ("unknown", "completed", "")),
        (Talk(structured_data={**STRUCTURED_DATA, "disqualified": True}), ("true", "completed", "")),
        (Talk(structured_data={**STRUCTURED_DATA, "disqualified": "perhaps"}), ("unknown", "completed", "")),
        (Talk(structured_data="They can come."), ("unknown", "completed", "")),
    ],
    ids=["voicemail", "silence", "disqualified", "neither", "no object"],
)
async def test_only_a_reliable_analysis_says_whether_a_provider_is_disqualified(
    house: House, talk: Talk, expected: tuple[str, str, str]
) -> None:
    """VAPI analyses a voicemail like a conversation, and finds a provider there who is not disqualified."""
    async with house.playing(Plan(talk=talk)):
        execution = await house.start("call_provider", request=FULL)
        assert await house.end(execution) == "SUCCESS"
    outputs = await house.outputs(execution)
    assert (outputs["disqualified"], outputs["outcome"], outputs["retry"]) == expected
    assert outputs["call_result"]["analysis_structured_data"], "there is an analysis"


async def test_an_answer_of_vapi_that_got_lost_phones_nobody_twice(house: House) -> None:
    house.vapi.break_next(method="POST")
    execution = await house.start("call_provider", request=FULL)
    assert await house.end(execution, within_s=120) == "FAILED"
    assert placed(house) == 1


async def test_a_refusal_of_vapi_is_told(house: House) -> None:
    execution = await house.start("call_provider", request={**FULL, "providerPhone": "8641234567"})
    assert await house.end(execution, within_s=120) == "FAILED"
    log = await house.log_with(execution, "Invalid call request")
    assert "Invalid call request" in log
    assert "output values" not in log, "a missing output would hide what is wrong"
    assert placed(house) == 0


async def test_many_calls_are_placed_a_few_at_a_time_and_each_has_its_result(house: House) -> None:
    """The fourth request and the sixth are none; so the first three are under way together, however slow the engine is."""
    requests: list[Any] = [
        {**FULL, "providerPhone": f"+1864555010{i}", "providerId": f"provider-{i}"} for i in range(7)
    ]
    requests[3]["providerPhone"] = "none"
    requests[5] = "no request at all"
    async with house.playing(Plan(step_s=0.7)) as played:
        execution = await house.start("call_providers", requests=requests, max_concurrent=3)
        assert await house.end(execution, within_s=120) == "SUCCESS"
    results = (await house.outputs(execution))["call_results"]
    assert [result["success"] for result in results] == [True, True, True, False, True, False, True]
    ids = [result["data"]["metadata"]["providerId"] for result in results if result["success"]]
    assert ids == [f"provider-{i}" for i in (0, 1, 2, 4, 6)]
    assert all(result["error"] for result in results if not result["success"])
    assert (placed(house), played.most_at_once) == (5, 3)


async def test_the_flow_in_the_readme_chooses_only_providers_whose_analysis_is_reliable(house: House) -> None:
    readme = (FLOWS / "README.md").read_text()
    [source] = re.findall(r"```yaml\n(id: choose_provider\n.+?)```", readme, re.DOTALL)
    await house.add_flow("choose_provider", source.replace("http://vapi-cache:8000", house.a.url))
    talks = [VOICEMAIL, Talk(), Talk(structured_data={**STRUCTURED_DATA, "disqualified": True}), SILENCE]
    requests: list[Any] = [{**FULL, "providerPhone": f"+1864555010{i}"} for i in range(len(talks))]
    async with house.playing(Plan(), of=lambda call: talks[int(call["customer"]["number"][-1])]):
        parts = {"requests": (None, json.dumps([*requests, {"providerName": "none"}]))}
        answer = await house.http.post("/api/v1/main/executions/ai_concierge/choose_provider", files=parts)
        execution = answer.json()["id"]
        assert await house.end(execution, within_s=120) == "SUCCESS"
    outputs = await house.outputs(execution)
    assert [record["customer_phone"] for record in outputs["willing"]] == ["+18645550101"]
    assert [record["customer_phone"] for record in outputs["call_again"]] == ["+18645550100"]


async def test_a_call_that_never_ends_is_a_result_among_the_others(house: House) -> None:
    source = changed("call_providers", "call_impatiently", ("minutes_per_call: 35", "minutes_per_call: 0"))
    await house.add_flow("call_impatiently", source)
    execution = await house.start("call_impatiently", requests=[FULL, {**FULL, "providerPhone": "none"}])
    assert await house.end(execution) == "SUCCESS"
    results = (await house.outputs(execution))["call_results"]
    assert [result["error"] for result in results] == ["The call has no final record in time", "Invalid call request"]
    assert [results[0]["call_id"]] == list(house.vapi.calls)


async def test_a_batch_that_takes_longer_than_an_answer_is_asked_for_again(house: House) -> None:
    """Three calls of 9 s one after the other: 202 after 20 s, and 200 for the same batch by the attempt after that."""
    source = changed("call_providers", "call_one_by_one", ("max_concurrent: .most", "max_concurrent: 1"))
    await house.add_flow("call_one_by_one", source)
    requests = [{**FULL, "providerPhone": f"+1864555020{i}", "providerId": f"provider-{i}"} for i in range(3)]
    house.vapi.be_slow(9)
    async with house.playing(Plan()):
        execution = await house.start("call_one_by_one", requests=requests, max_concurrent=3)
        assert await house.end(execution, within_s=120) == "SUCCESS"
    assert "202" in await house.log_with(execution, "202"), "the first attempt was answered 200"
    results = (await house.outputs(execution))["call_results"]
    assert [result["data"]["metadata"]["providerId"] for result in results] == [f"provider-{i}" for i in range(3)]
    assert placed(house) == 3


async def test_no_requests_are_no_results(house: House) -> None:
    execution = await house.start("call_providers", requests=[])
    assert await house.end(execution) == "SUCCESS"
    assert (await house.outputs(execution))["call_results"] == []


async def test_a_service_that_places_through_kestra_is_asked_by_the_flow_in_turn(house: House) -> None:
    source = changed("call_provider", "call_provider_here", ("http://vapi-cache:8000", house.a.url))
    await house.add_flow("call_provider_here", source)
    through_kestra = house.build_replica(KESTRA_FLOW="call_provider_here", KESTRA_ENABLED="1")
    async with house.playing(Plan()):
        answer = await house.place(through_kestra, FULL)
        assert (answer["method"], answer["call_id"], answer["status"]) == ("kestra", None, "queued")
        assert await house.end(answer["execution_id"]) == "SUCCESS"
    assert placed(house) == 1
    record = (await house.outputs(answer["execution_id"]))["call_result"]
    assert record["service_request_id"] == FULL["serviceRequestId"]
