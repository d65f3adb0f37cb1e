"""The client against a Kestra of both versions: create, look, resume."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.errors import UpstreamError
from service.kestra.client import KestraClient, Resumption
from tests.support.fake_kestra import FakeKestra
from tests.support.kestra_talk import PASSWORD, connected
from tests.support.multipart import Part

FLOW = "/api/v1/main/executions/ai_concierge/call_provider"


@pytest.fixture(params=["v1", "v2"])
async def kestra(request: pytest.FixtureRequest) -> AsyncIterator[FakeKestra]:
    async with FakeKestra(request.param, username="ops@example.com", password=PASSWORD) as server:
        yield server


@pytest.fixture
async def client(kestra: FakeKestra) -> AsyncIterator[KestraClient]:
    async with connected(kestra) as connection:
        yield connection


async def test_an_execution_is_created_with_its_inputs_and_labels(kestra: FakeKestra, client: KestraClient) -> None:
    request = '{"providerName": "Zoë\\n"}'
    execution = await client.create_execution({"request": request}, labels={"requestId": "a:b c&d", "from": "api"})
    created = kestra.executions[execution.id]
    assert (execution.state, execution.is_terminal) == ("CREATED", False)
    assert (created.namespace, created.flow, created.inputs) == ("ai_concierge", "call_provider", {"request": request})
    assert created.labels == {"requestId": "a:b c&d", "from": "api"}


@pytest.mark.parametrize("body", [{"id": "x1"}, {"id": "x1", "state": None}])
async def test_an_execution_whose_state_is_not_told_was_created_all_the_same(
    kestra: FakeKestra, client: KestraClient, body: object
) -> None:
    kestra.answer_next(200, body)
    execution = await client.create_execution({"request": "{}"}, labels={})
    assert (execution.id, execution.state, execution.is_terminal) == ("x1", "", False)


async def test_inputs_travel_as_parts_without_a_file_name(kestra: FakeKestra, client: KestraClient) -> None:
    await client.create_execution({"request": "{}", "service_url": "http://vapi-cache:8000"}, labels={})
    assert kestra.requests[-1][:4] == (
        "POST",
        FLOW,
        (),
        (Part("request", "{}"), Part("service_url", "http://vapi-cache:8000")),
    )


async def test_another_flow_of_the_namespace_may_be_named(kestra: FakeKestra, client: KestraClient) -> None:
    execution = await client.create_execution({"requests": "[]"}, labels={}, flow="call_providers")
    assert kestra.executions[execution.id].flow == "call_providers"


@pytest.mark.parametrize("blank", ["", " ", ": :"])
async def test_a_label_that_kestra_would_refuse_is_left_out(
    kestra: FakeKestra, client: KestraClient, blank: str
) -> None:
    execution = await client.create_execution({"request": "{}"}, labels={"call": blank, "of": "us"})
    assert kestra.executions[execution.id].labels == {"of": "us"}


async def test_an_execution_is_found_as_it_is_now(kestra: FakeKestra, client: KestraClient) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    execution = await client.find_execution(execution_id)
    assert execution is not None
    assert (execution.id, execution.state, execution.is_terminal) == (execution_id, "PAUSED", False)


async def test_an_unknown_execution_is_none(client: KestraClient) -> None:
    assert await client.find_execution("nobody") is None


@pytest.mark.parametrize(
    "state", ["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED", "RESUBMITTED"]
)
async def test_every_state_that_ends_an_execution_is_terminal(
    kestra: FakeKestra, client: KestraClient, state: str
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].end(state)
    execution = await client.find_execution(execution_id)
    assert execution is not None
    assert execution.is_terminal


@pytest.mark.parametrize("state", ["SUBMITTED", "QUEUED", "KILLING", "BREAKPOINT", "RETRYING", "A_STATE_OF_TOMORROW"])
async def test_other_states_and_unknown_ones_are_not(kestra: FakeKestra, client: KestraClient, state: str) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].move(state)
    execution = await client.find_execution(execution_id)
    assert execution is not None
    assert not execution.is_terminal


async def test_a_paused_execution_is_resumed(kestra: FakeKestra, client: KestraClient) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    assert await client.resume(execution_id) is Resumption.RESUMED
    assert (kestra.executions[execution_id].resumes, kestra.executions[execution_id].state) == (1, "RUNNING")


async def test_a_second_resume_changes_nothing(kestra: FakeKestra, client: KestraClient) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    await client.resume(execution_id)
    assert await client.resume(execution_id) is Resumption.ALREADY_RESUMED
    assert kestra.executions[execution_id].resumes == 1


@pytest.mark.parametrize("state", ["SUCCESS", "FAILED", "CANCELLED"])
async def test_an_execution_that_is_over_counts_as_resumed(
    kestra: FakeKestra, client: KestraClient, state: str
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].end(state)
    assert await client.resume(execution_id) is Resumption.ALREADY_RESUMED


@pytest.mark.parametrize("states", [(), ("RUNNING",), ("QUEUED",)])
async def test_an_execution_that_has_not_paused_yet_may_be_asked_again(
    kestra: FakeKestra, client: KestraClient, states: tuple[str, ...]
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].move(*states)
    assert await client.resume(execution_id) is Resumption.NOT_PAUSED_YET


async def test_an_execution_that_paused_while_we_asked_may_be_asked_again(
    kestra: FakeKestra, client: KestraClient
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    kestra.refuse_resumes(1)
    assert await client.resume(execution_id) is Resumption.NOT_PAUSED_YET
    assert await client.resume(execution_id) is Resumption.RESUMED


async def test_an_unknown_execution_cannot_be_resumed(client: KestraClient) -> None:
    assert await client.resume("nobody") is Resumption.UNKNOWN_EXECUTION


async def test_an_execution_that_kestra_refuses_and_does_not_show_may_be_asked_again(
    kestra: FakeKestra, client: KestraClient
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.answer_next(404, method="GET", path_part=execution_id)
    assert await client.resume(execution_id) is Resumption.NOT_PAUSED_YET
    kestra.executions[execution_id].pause()
    assert await client.resume(execution_id) is Resumption.RESUMED


async def test_an_execution_that_vanishes_meanwhile_is_unknown_the_next_time(
    kestra: FakeKestra, client: KestraClient
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.refuse_resumes(1)
    del kestra.executions[execution_id]
    resumptions = [await client.resume(execution_id) for _ in range(2)]
    assert resumptions == [Resumption.NOT_PAUSED_YET, Resumption.UNKNOWN_EXECUTION]


@pytest.mark.parametrize(
    ("inputs", "flow", "word"),
    [({"request": "{}"}, "no_such_flow", "KESTRA_FLOW"), ({}, None, "inputs"), ({"other": "1"}, None, "inputs")],
)
async def test_a_refusal_says_where_to_look(
    client: KestraClient, inputs: dict[str, str], flow: str | None, word: str
) -> None:
    with pytest.raises(UpstreamError, match=word) as caught:
        await client.create_execution(inputs, labels={}, flow=flow)
    assert not caught.value.is_outcome_unknown
