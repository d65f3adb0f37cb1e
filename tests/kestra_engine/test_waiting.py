"""The flows that wait for a call, on Kestra's own engine: each ends with the record, or says that there is none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kestra_engine.house import House, changed
from tests.support.fake_vapi_webhooks import Plan
from tests.support.vapi_sender import full_report, status_update

WAYS = ("wait_loop", "wait_long_poll", "wait_events", "wait_pause_resume")
PENDING_S = 4.0
"""Long enough for every flow to have asked or subscribed."""


def long_report(call_id: str) -> dict[str, Any]:
    """With a transcript of 1.5 MB."""
    report = full_report(call_id)
    report["message"]["artifact"]["transcript"] = "User: Tomorrow at two.\n" * 65_000
    return report


@pytest.mark.short
@pytest.mark.parametrize("flow", WAYS)
async def test_each_way_of_waiting_ends_with_the_record(house: House, flow: str) -> None:
    call_id = house.add_call()
    execution = await house.start(flow, call_id=call_id)
    await asyncio.sleep(PENDING_S)
    await house.run_call(call_id)
    assert await house.end(execution) == "SUCCESS"
    record = (await house.outputs(execution))["call_result"]
    assert (record["call_id"], record["data_status"], record["outcome"]) == (call_id, "complete", "completed")


@pytest.mark.parametrize("flow", WAYS)
async def test_a_call_that_is_over_already_is_not_waited_for(house: House, flow: str) -> None:
    call_id = house.add_call()
    await house.run_call(call_id)
    execution = await house.start(flow, call_id=call_id)
    assert await house.end(execution) == "SUCCESS"
    assert (await house.outputs(execution))["call_result"]["call_id"] == call_id


@pytest.mark.parametrize("flow", WAYS)
async def test_a_call_that_no_webhook_told_of_is_found(house: House, flow: str) -> None:
    call_id = house.add_call()
    await house.run_call(call_id, Plan(is_silent=True))
    execution = await house.start(flow, call_id=call_id)
    assert await house.end(execution) == "SUCCESS"
    assert (await house.outputs(execution))["call_result"]["data_status"] == "complete"


@pytest.mark.parametrize("flow", ["wait_loop", "wait_events", "wait_pause_resume"])
async def test_a_call_that_never_ends_fails_the_flow_and_it_says_so(house: House, flow: str) -> None:
    call_id = house.add_call()
    await house.send(status_update("ringing", call_id))
    brief = [("wait_minutes }}M", "wait_minutes }}S")] + [("wait=60", "wait=1")] * (flow == "wait_events")
    await house.add_flow(f"{flow}_seconds", changed(flow, f"{flow}_seconds", *brief))
    execution = await house.start(f"{flow}_seconds", call_id=call_id, wait_minutes=2)
    assert await house.end(execution) == "FAILED"
    sentence = f"Call {call_id} has no final record after 2 minutes"
    assert sentence in await house.log_with(execution, sentence)


async def test_a_long_poll_for_a_call_that_never_ends_fails_the_flow_and_it_says_so(house: House) -> None:
    call_id = house.add_call()
    await house.send(status_update("ringing", call_id))
    source = changed(
        "wait_long_poll", "wait_short_poll", ("maxDuration: PT35M", "maxDuration: PT6S"), ("wait=25", "wait=1")
    )
    await house.add_flow("wait_short_poll", source)
    execution = await house.start("wait_short_poll", call_id=call_id)
    assert await house.end(execution) == "FAILED"
    sentence = f"Call {call_id} has no final record"
    log = await house.log_with(execution, sentence)
    assert sentence in log
    assert "output values" not in log, "a missing output would hide what is wrong"


@pytest.mark.settings(REPORT_GRACE_S=1)
@pytest.mark.parametrize("flow", WAYS)
async def test_a_report_that_stays_away_does_not_fail_the_flow(house: House, flow: str) -> None:
    call_id = f"no-report-{flow}"
    execution = await house.start(flow, call_id=call_id)
    await house.send(status_update("ended", call_id, endedReason="customer-busy"))
    assert await house.end(execution) == "SUCCESS"
    assert (await house.outputs(execution))["call_result"]["data_status"] == "fetch_failed"


@pytest.mark.parametrize("flow", ["wait_loop", "wait_long_poll", "wait_events"])
async def test_a_call_that_vapi_does_not_know_fails_the_flow_and_it_says_so(house: House, flow: str) -> None:
    execution = await house.start(flow, call_id=f"nobodys-{flow}")
    assert await house.end(execution) == "FAILED"
    assert "will have no record" in await house.log_with(execution, "will have no record")


@pytest.mark.parametrize("flow", WAYS)
async def test_a_transcript_over_the_engines_message_limit_does_no_harm(house: House, flow: str) -> None:
    call_id = f"long-talk-{flow}"
    execution = await house.start(flow, call_id=call_id)
    await house.send(long_report(call_id))
    assert await house.end(execution) == "SUCCESS"
    assert "transcript" not in (await house.outputs(execution))["call_result"]


async def test_with_the_transcript_the_same_call_is_too_much_for_1_3(house: House) -> None:
    """What the flows above are spared by ``view=summary``; 2.0.0 takes it."""
    full, twice = ("view=summary", "view=full"), ("maxAttempts: 200", "maxAttempts: 2")
    await house.add_flow("wait_for_all", changed("wait_long_poll", "wait_for_all", full, twice))
    await house.send(long_report("long-talk"))
    execution = await house.start("wait_for_all", call_id="long-talk")
    expected = "FAILED" if house.engine.version.startswith("1.") else "SUCCESS"
    assert await house.end(execution) == expected


@pytest.mark.parametrize("inputs", [{"call_id": "../calls/batch"}, {"call_id": "one", "wait_minutes": "0"}])
async def test_wrong_inputs_are_refused_before_anything_runs(house: House, inputs: dict[str, str]) -> None:
    """A pause of no minutes would keep Kestra 2.0.0 busy for ever."""
    parts = {name: (None, text) for name, text in inputs.items()}
    answer = await house.http.post("/api/v1/main/executions/ai_concierge/wait_pause_resume", files=parts)
    assert answer.status_code == 422
