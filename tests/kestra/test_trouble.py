"""Kestra away, silent, overloaded, in the way or unreadable: what is tried again, what is not, and what people read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from service.kestra.client import KestraClient, Resumption
from service.kestra.connection import MAX_ANSWER_BYTES, MAX_CONNECTIONS
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.fake_kestra import FakeKestra
from tests.support.kestra_talk import PASSWORD, connected, refusal_of, settings_for, until_said
from tests.support.ports import free_port

Ask = Callable[[KestraClient], Coroutine[Any, Any, object]]


@pytest.fixture
async def kestra() -> AsyncIterator[FakeKestra]:
    async with FakeKestra("v2", username="ops@example.com", password=PASSWORD) as server:
        yield server


@pytest.fixture
async def client(kestra: FakeKestra) -> AsyncIterator[KestraClient]:
    async with connected(kestra) as client:
        yield client


@pytest.fixture
async def hurried(kestra: FakeKestra) -> AsyncIterator[KestraClient]:
    """A client that does not wait long, but for long enough to be heard."""
    async with connected(kestra, within_s=3.0) as client:
        yield client


def create(client: KestraClient) -> Coroutine[Any, Any, object]:
    return client.create_execution({"request": "{}"}, labels={})


def find(client: KestraClient) -> Coroutine[Any, Any, object]:
    return client.find_execution("x")


def resume(client: KestraClient) -> Coroutine[Any, Any, object]:
    return client.resume("x")


every_request = pytest.mark.parametrize("ask", [create, find, resume])


@every_request
async def test_where_nobody_listens_nothing_was_done(kestra: FakeKestra, ask: Ask) -> None:
    url = f"http://ops:a-password@127.0.0.1:{free_port()}"
    async with connected(kestra, kestra_url=url) as client:
        sentence = await refusal_of(ask(client))
    assert "host and port of KESTRA_URL" in sentence
    assert "a-password" not in sentence


@every_request
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_said_to_be_refused(
    kestra: FakeKestra, client: KestraClient, ask: Ask, status: int
) -> None:
    kestra.answer_next(status)
    assert "KESTRA_USERNAME and KESTRA_PASSWORD, or KESTRA_TOKEN" in await refusal_of(ask(client))
    assert len(kestra.requests) == 1


@every_request
async def test_a_redirect_is_not_followed(kestra: FakeKestra, client: KestraClient, ask: Ask) -> None:
    kestra.answer_next(302, location=kestra.url + "/login")
    assert "redirects" in await refusal_of(ask(client))
    assert len(kestra.requests) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_get_is_tried_again(kestra: FakeKestra, client: KestraClient, status: int) -> None:
    kestra.answer_next(status)
    assert await find(client) is None
    assert len(kestra.requests) == 2


async def test_a_get_is_tried_three_times(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(503, times=3)
    assert "503" in await refusal_of(find(client))
    assert len(kestra.requests) == 3


async def test_a_get_survives_a_cut_connection(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.cut_next()
    assert await find(client) is None


async def test_trouble_of_its_own_is_not_asked_for_again(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(500)
    assert "500" in await refusal_of(find(client))
    assert len(kestra.requests) == 1


@pytest.mark.parametrize(("status", "is_unknown"), [(500, True), (502, True), (504, True), (503, False), (429, False)])
async def test_a_creation_is_sent_once_and_its_outcome_told(
    kestra: FakeKestra, client: KestraClient, status: int, *, is_unknown: bool
) -> None:
    kestra.answer_next(status)
    assert str(status) in await refusal_of(create(client), is_outcome_unknown=is_unknown)
    assert len(kestra.requests) == 1


async def test_a_disabled_flow_creates_nothing(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(409)
    assert "disabled" in await refusal_of(create(client))


@pytest.mark.parametrize("is_done", [False, True])
async def test_nobody_knows_what_became_of_a_creation_whose_answer_got_lost(
    kestra: FakeKestra, client: KestraClient, *, is_done: bool
) -> None:
    kestra.cut_next(is_done=is_done)
    await refusal_of(create(client), is_outcome_unknown=True)
    assert (len(kestra.requests), len(kestra.executions)) == (1, is_done)


async def test_nobody_knows_what_became_of_a_creation_without_an_answer(
    kestra: FakeKestra, hurried: KestraClient
) -> None:
    kestra.hang_next(is_done=True)
    assert "in time" in await refusal_of(create(hurried), is_outcome_unknown=True)
    assert (len(kestra.requests), len(kestra.executions)) == (1, 1)


async def test_a_silent_kestra_is_not_waited_for(kestra: FakeKestra, hurried: KestraClient) -> None:
    kestra.hang_next()
    assert "in time" in await refusal_of(find(hurried))
    assert len(kestra.requests) == 1


async def test_an_answer_that_drips_in_ends_as_well(kestra: FakeKestra, hurried: KestraClient) -> None:
    kestra.drip_next(times=2)
    assert "in time" in await refusal_of(find(hurried))
    assert "in time" in await refusal_of(create(hurried), is_outcome_unknown=True)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Log in</html>",
        b"{}",
        b'{"id": "", "state": {"current": "CREATED"}}',
        b'{"id": "x", "state": "CREATED"}',
        b"\xff",
        b"[" * 100_000,
        b'{"id": "x", "outputs": ' + b"[" * 100_000,
    ],
    ids=["page", "empty", "no-id", "other-state", "not-utf-8", "deep", "deep-outputs"],
)
async def test_an_answer_that_makes_no_sense_is_trouble(kestra: FakeKestra, client: KestraClient, body: bytes) -> None:
    kestra.answer_next(200, body, times=2)
    assert "cannot be read" in await refusal_of(find(client))
    assert "cannot be read" in await refusal_of(create(client), is_outcome_unknown=True)


async def test_an_answer_beyond_all_measure_is_dropped(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(200, b" " * (MAX_ANSWER_BYTES + 1), times=2)
    assert "too large" in await refusal_of(find(client))
    assert "too large" in await refusal_of(create(client), is_outcome_unknown=True)


async def test_an_execution_kestra_will_not_show_is_trouble(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(400)
    assert "400" in await refusal_of(find(client))


async def test_a_resume_that_kestra_refuses_is_trouble(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.answer_next(422, method="POST", path_part="resume")
    assert "422" in await refusal_of(resume(client))


async def test_a_resume_whose_answer_got_lost_is_found_done_afterwards(
    kestra: FakeKestra, client: KestraClient
) -> None:
    execution_id = (await client.create_execution({"request": "{}"}, labels={})).id
    kestra.executions[execution_id].pause()
    kestra.cut_next(method="POST", is_done=True)
    await refusal_of(client.resume(execution_id), is_outcome_unknown=True)
    assert await client.resume(execution_id) is Resumption.ALREADY_RESUMED
    assert kestra.executions[execution_id].resumes == 1


async def test_more_requests_than_connections_wait_for_one_another(kestra: FakeKestra, client: KestraClient) -> None:
    executions = await asyncio.gather(*[client.create_execution({"request": "{}"}, labels={}) for _ in range(60)])
    assert len({execution.id for execution in executions}) == len(kestra.executions) == 60


async def test_one_that_waited_too_long_for_them_was_not_sent(kestra: FakeKestra) -> None:
    kestra.hang_next(times=MAX_CONNECTIONS)
    async with connected(kestra, within_s=PATIENCE_S) as client:
        hanging = [asyncio.ensure_future(create(client)) for _ in range(MAX_CONNECTIONS)]
        await eventually(lambda: len(kestra.requests) >= MAX_CONNECTIONS)
        assert "under way" in await refusal_of(create(client))
        for one in hanging:
            one.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_request_given_up_leaves_the_client_usable(kestra: FakeKestra, client: KestraClient) -> None:
    kestra.hang_next()
    given_up = asyncio.ensure_future(find(client))
    await eventually(lambda: len(kestra.requests) == 1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await find(client) is None


async def test_kestra_is_healthy_while_it_answers_and_takes_the_credentials(kestra: FakeKestra) -> None:
    async with connected(kestra) as client, connected(kestra, kestra_password="another") as stranger:
        await until_said(client, None)
        await until_said(stranger, "KESTRA_PASSWORD")


async def test_health_checks_close_together_ask_once(kestra: FakeKestra, client: KestraClient) -> None:
    async def are_answered_by_one_request() -> bool:
        before = len(kestra.requests)
        problems = await asyncio.gather(*[client.find_problem() for _ in range(20)])
        return not any(problems) and len(kestra.requests) == before + 1  # a busy machine may be late for the first

    await eventually(are_answered_by_one_request, within_s=20)


async def test_health_is_asked_for_again_after_a_while(kestra: FakeKestra) -> None:
    kestra.answer_next(503)
    async with connected(kestra, health_valid_s=0) as client:
        assert await client.find_problem() is not None
        await until_said(client, None)


async def test_a_health_check_of_a_silent_kestra_is_shorter_than_other_requests(kestra: FakeKestra) -> None:
    kestra.hang_next(times=20)
    async with connected(kestra, within_s=PATIENCE_S) as client, asyncio.timeout(PATIENCE_S / 3):
        assert all(await asyncio.gather(*[client.find_problem() for _ in range(20)]))


def test_the_settings_of_a_client_show_no_password(kestra: FakeKestra) -> None:
    assert PASSWORD not in repr(settings_for(kestra))
