"""The calls of the fake VAPI run their course, and their messages go out as VAPI's do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from service.calls.status import Ending
from service.vapi.intake import change_of
from service.vapi.messages import decode_message
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_calls import NO_ANSWER
from tests.support.fake_vapi_server import LoopbackServer, Reply, Request
from tests.support.fake_vapi_webhooks import Plan, Server
from tests.support.routes import WEBHOOK
from tests.support.vapi_sender import sample

COMMON: Final = {"timestamp", "type", "artifact", "call", "phoneNumber", "customer", "assistant", "assistantVersion"}


class Receiver:
    """Takes webhooks; ``statuses`` are its next answers, 200 when there are none left."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.server = LoopbackServer(self._take).start()

    def _take(self, _: Request) -> Reply:
        return Reply(self.statuses.pop(0) if self.statuses else 200, {})

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [request.json["message"] for request in self.server.received]

    @property
    def kinds(self) -> list[str]:
        return [message.get("status", message["type"]) for message in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.stop()


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


async def ran(vapi: FakeVapi, receiver: Receiver, **plan: Any) -> str:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, to=[receiver.server.url], plan=Plan(**plan))
    return call_id


async def test_every_message_of_a_call_arrives_once_and_in_order(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver)
    assert receiver.kinds == ["queued", "ringing", "in-progress", "ended", "end-of-call-report"]
    assert {request.path for request in receiver.server.received} == {WEBHOOK}
    assert all(delivery.is_acknowledged for delivery in vapi.deliveries)


async def test_messages_have_vapis_shape(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver)
    update, report = receiver.messages[3], receiver.messages[-1]
    assert update.keys() == COMMON | {"status", "endedReason"}
    assert report.keys() <= sample("outbound-end-of-call-report-full")["message"].keys()
    assert {"analysis", "durationSeconds", "cost", "transcript", "endedReason", "startedAt"} <= report.keys()


async def test_the_call_in_a_message_is_the_call_as_it_was_created(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver)
    assert {message["call"]["status"] for message in receiver.messages} == {"queued"}
    assert not {"endedReason", "transcript", "analysis"} & receiver.messages[-1]["call"].keys()


async def test_our_service_takes_the_report_for_a_full_one(vapi: FakeVapi, receiver: Receiver) -> None:
    call_id = await ran(vapi, receiver)
    change = change_of(decode_message(receiver.server.received[-1].body)).change
    assert change is not None
    assert (change.call_id.decode(), change.ending) == (call_id, Ending.FULL_REPORT)


async def test_asking_shows_each_step(vapi: FakeVapi, receiver: Receiver) -> None:
    call_id = vapi.add_call()
    running = asyncio.ensure_future(vapi.run_call(call_id, plan=Plan(step_s=0.02, analysis_after_s=0.1)))
    seen: list[tuple[str, bool]] = []
    while not running.done():
        state = (vapi.calls[call_id]["status"], bool(vapi.calls[call_id].get("analysis")))
        if state not in seen:
            seen.append(state)
        await asyncio.sleep(0.001)
    await running
    states = ["queued", "ringing", "in-progress", "ended"]
    assert seen == [(status, False) for status in states]
    call = vapi.calls[call_id]
    assert (call["analysis"]["successEvaluation"], call["cost"], call["status"]) == ("true", 0.1187, "ended")
    assert call["updatedAt"] > call["createdAt"]


async def test_a_call_that_has_not_ended_has_no_report(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, statuses=("ringing", "in-progress"))
    assert receiver.kinds == ["ringing", "in-progress"]


async def test_a_call_nobody_answered_has_neither_start_nor_talk(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, talk=NO_ANSWER, statuses=("ringing", "ended"))
    report = receiver.messages[-1]
    assert (report["endedReason"], report["analysis"], report["cost"]) == ("customer-did-not-answer", {}, 0)
    assert not {"startedAt", "transcript", "recordingUrl", "durationSeconds"} & report.keys()


async def test_a_preliminary_report_has_no_result_and_comes_first(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, has_preliminary_report=True)
    preliminary = receiver.messages[-2]
    assert (preliminary["type"], preliminary["analysis"]) == ("end-of-call-report", {})
    assert not {"cost", "durationSeconds", "summary"} & preliminary.keys()
    change = change_of(decode_message(receiver.server.received[-2].body)).change
    assert change is not None
    assert change.ending == Ending.PRELIMINARY_REPORT


async def test_what_is_missing_never_arrives(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, missing=frozenset({"ended", "end-of-call-report"}))
    assert receiver.kinds == ["queued", "ringing", "in-progress"]


async def test_a_silent_call_only_shows_when_asked(vapi: FakeVapi, receiver: Receiver) -> None:
    call_id = await ran(vapi, receiver, is_silent=True)
    assert (receiver.kinds, vapi.calls[call_id]["status"]) == ([], "ended")


async def test_a_copy_differs_in_its_signatures(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, copies=2, statuses=("ended",))
    first, second = receiver.messages[-2:]
    assert first["artifact"].pop("presignedMonoUrl") != second["artifact"].pop("presignedMonoUrl")
    assert first["analysis"] == second["analysis"]
    assert receiver.kinds == ["ended", "ended", "end-of-call-report", "end-of-call-report"]


async def test_everything_can_come_in_reverse(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, order="reversed")
    assert receiver.kinds == ["end-of-call-report", "ended", "in-progress", "ringing", "queued"]


async def test_a_shuffle_is_the_same_for_the_same_seed(vapi: FakeVapi, receiver: Receiver) -> None:
    for _ in range(2):
        await ran(vapi, receiver, order="shuffled", seed=7)
    assert receiver.kinds[:5] == receiver.kinds[5:]
    assert sorted(receiver.kinds[:5]) == ["end-of-call-report", "ended", "in-progress", "queued", "ringing"]


async def test_everything_can_come_at_once_and_late(vapi: FakeVapi, receiver: Receiver) -> None:
    await ran(vapi, receiver, order="shuffled", is_at_once=True, late_s=0.01)
    assert len(receiver.kinds) == 5


async def test_several_addresses_share_the_messages(vapi: FakeVapi, receiver: Receiver) -> None:
    other = Receiver()
    for _ in range(4):
        await vapi.run_call(vapi.add_call(), to=[receiver.server.url, other.server.url])
    other.server.stop()
    assert receiver.kinds
    assert other.kinds
    assert len(receiver.kinds) + len(other.kinds) == 20


def assistant_at(receiver: Receiver, **server: Any) -> dict[str, Any]:
    return {"serverMessages": ["end-of-call-report"], "server": {"url": receiver.server.url + "/hook", **server}}


async def test_an_assistants_own_server_gets_what_it_asked_for_with_its_proof(
    vapi: FakeVapi, receiver: Receiver
) -> None:
    assistant = assistant_at(receiver, headers={"X-Own": "yes"}, secret="hush")
    await vapi.run_call(vapi.add_call(assistant=assistant))
    (request,) = receiver.server.received
    assert (request.path, request.headers["x-own"], request.headers["x-vapi-secret"]) == ("/hook", "yes", "hush")
    assert request.json["message"]["type"] == "end-of-call-report"


async def test_the_overrides_server_wins(vapi: FakeVapi, receiver: Receiver) -> None:
    overrides = {"server": {"url": receiver.server.url + "/other"}}
    await vapi.run_call(vapi.add_call(assistant=assistant_at(receiver), assistantOverrides=overrides))
    assert {request.path for request in receiver.server.received} == {"/other"}


async def test_a_call_without_a_server_tells_nobody(vapi: FakeVapi) -> None:
    assert await vapi.run_call(vapi.add_call()) == []


async def test_nothing_is_sent_twice_without_a_backoff_plan(vapi: FakeVapi, receiver: Receiver) -> None:
    receiver.statuses = [503]
    (delivery,) = await vapi.run_call(vapi.add_call(assistant=assistant_at(receiver)))
    assert (delivery.statuses, delivery.is_acknowledged) == ((503,), False)


async def test_a_backoff_plan_is_followed_to_the_first_success(vapi: FakeVapi, receiver: Receiver) -> None:
    plan = {"type": "exponential", "maxRetries": 5, "baseDelaySeconds": 0.1, "excludedStatusCodes": [400]}
    receiver.statuses = [503, 500]
    (delivery,) = await vapi.run_call(vapi.add_call(assistant=assistant_at(receiver, backoffPlan=plan)))
    assert delivery.statuses == (503, 500, 200)


async def test_an_excluded_status_is_not_retried(vapi: FakeVapi, receiver: Receiver) -> None:
    plan = {"type": "fixed", "maxRetries": 5, "baseDelaySeconds": 0, "excludedStatusCodes": [400]}
    receiver.statuses = [503, 400]
    (delivery,) = await vapi.run_call(vapi.add_call(assistant=assistant_at(receiver, backoffPlan=plan)))
    assert delivery.statuses == (503, 400)


async def test_an_address_where_nobody_listens_counts_as_an_attempt(vapi: FakeVapi, receiver: Receiver) -> None:
    plan = {"type": "fixed", "maxRetries": 2, "baseDelaySeconds": 0}
    receiver.server.go_away()
    (delivery,) = await vapi.run_call(vapi.add_call(assistant=assistant_at(receiver, backoffPlan=plan)))
    assert delivery.statuses == (0, 0, 0)


def test_pauses_grow_only_where_the_plan_says_so() -> None:
    steady = Server.of({"backoffPlan": {"type": "fixed", "maxRetries": 3, "baseDelaySeconds": 2}})
    growing = Server.of({"backoffPlan": {"type": "exponential", "maxRetries": 3, "baseDelaySeconds": 2}})
    assert [steady.delay_s(attempt) for attempt in (1, 2, 3)] == [2, 2, 2]
    assert [growing.delay_s(attempt) for attempt in (1, 2, 3)] == [2, 4, 8]
