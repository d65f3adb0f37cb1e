"""When VAPI, or the way to it, is in trouble: nobody is phoned twice, and nothing takes for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from service.errors import ServiceError, UpstreamError
from service.load_config import load_settings
from service.vapi.client import MAX_ANSWER_BYTES, MAX_CONNECTIONS, POOL_S, VapiClient
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.fake_vapi import FakeVapi
from tests.vapi.conftest import order_at

POST = ("POST", "/call")
GET = ("GET", "/call/call-1")
GET_RECORDING = ("GET", "/call/call-1/mono-recording")


async def failed_call(client: VapiClient, vapi: FakeVapi) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await client.create_call(order_at(vapi))
    return raised.value


async def eventually_asked(vapi: FakeVapi) -> None:
    await eventually(lambda: bool(vapi.requests))


async def test_a_silence_after_the_order_leaves_the_outcome_unknown(vapi: FakeVapi, hurried: VapiClient) -> None:
    vapi.hang_next()
    error = await failed_call(hurried, vapi)
    assert (str(error), error.is_outcome_unknown) == ("VAPI did not answer in time", True)
    assert vapi.requests == [POST]
    assert len(vapi.calls) == 1


async def test_a_connection_closed_after_the_order_leaves_the_outcome_unknown(
    vapi: FakeVapi, client: VapiClient
) -> None:
    vapi.break_next()
    error = await failed_call(client, vapi)
    assert (str(error), error.is_outcome_unknown) == ("The connection to VAPI broke", True)
    assert vapi.requests == [POST]


async def test_an_answer_cut_short_leaves_the_outcome_unknown(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.cut_next()
    assert (await failed_call(client, vapi)).is_outcome_unknown
    assert vapi.requests == [POST]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"id":7}', b'{"id":"x"', b'{"id":"\xff"}', b'{"id":"x","y":' + b"[" * 5000],
    ids=["nothing", "a page", "a list", "no id", "a number", "half", "no text", "deep"],
)
async def test_a_success_without_a_call_leaves_the_outcome_unknown(
    vapi: FakeVapi, client: VapiClient, body: bytes
) -> None:
    vapi.answer_next(201, body)
    error = await failed_call(client, vapi)
    assert (str(error), error.is_outcome_unknown) == ("VAPI's answer cannot be read", True)


async def test_a_success_that_was_packed_unasked_leaves_the_outcome_unknown(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.answer_next(201, {"id": "call-1"}, headers={"content-encoding": "gzip"})
    assert (await failed_call(client, vapi)).is_outcome_unknown


async def test_a_text_that_vapi_cut_within_a_character_does_not_undo_a_call(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.answer_next(201, {"id": "call-1", "name": "cut \ud83d"})
    assert b"call-1" in await client.create_call({})


async def test_a_refused_connection_means_that_nobody_was_phoned(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.go_away()
    error = await failed_call(client, vapi)
    assert (str(error), error.is_outcome_unknown) == ("VAPI cannot be reached", False)


async def test_a_connection_that_does_not_come_about_means_that_nobody_was_phoned() -> None:
    """A listener whose queue is full: the kernel does not even answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = VapiClient(load_settings({"VAPI_API_URL": url, "VAPI_API_KEY": "k"}), write_s=0.5)
        with pytest.raises(UpstreamError) as raised:
            await client.create_call({})
        await client.close()
    assert (str(raised.value), raised.value.is_outcome_unknown) == ("VAPI did not answer in time", False)


async def test_a_cancelled_order_is_not_sent_again_and_leaves_the_client_usable(
    vapi: FakeVapi, client: VapiClient
) -> None:
    vapi.hang_next()
    order = asyncio.ensure_future(client.create_call(order_at(vapi)))
    await eventually_asked(vapi)
    order.cancel()
    with pytest.raises(asyncio.CancelledError):
        await order
    assert await client.get_call("call-1") is None
    assert vapi.requests == [POST, GET]


async def test_every_order_has_a_connection_of_its_own(vapi: FakeVapi, client: VapiClient) -> None:
    """One that VAPI has closed meanwhile would leave the outcome unknown."""
    await client.create_call(order_at(vapi))
    vapi.go_away()
    vapi.come_back()
    await client.create_call(order_at(vapi))
    assert len(vapi.calls) == 2


async def test_a_redirect_is_not_followed(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.answer_next(307, b"", headers={"location": f"{vapi.url}/assistant"})
    assert "redirect" in str(await failed_call(client, vapi))
    vapi.answer_next(301, b"", headers={"location": f"{vapi.url}/assistant"})
    with pytest.raises(UpstreamError, match="redirect"):
        await client.get_call("call-1")
    assert vapi.requests == [POST, GET]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_question_is_asked_again_after_a_stumble(vapi: FakeVapi, client: VapiClient, status: int) -> None:
    vapi.refuse_next(status)
    assert await client.find_recording_url("call-1") is None
    assert vapi.requests == [GET_RECORDING, GET_RECORDING]


async def test_a_question_is_asked_again_over_another_connection(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.break_next()
    assert await client.get_call("call-1") is None
    assert vapi.requests == [GET, GET]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_who_asks_for_a_call_keeps_a_pace_so_trouble_is_an_answer(
    vapi: FakeVapi, client: VapiClient, status: int
) -> None:
    vapi.refuse_next(status)
    with pytest.raises(UpstreamError):
        await client.get_call("call-1")
    assert vapi.requests == [GET]


@pytest.mark.parametrize("status", [500, 401, 429])
async def test_a_question_that_was_answered_is_not_repeated(vapi: FakeVapi, client: VapiClient, status: int) -> None:
    vapi.refuse_next(status)
    with pytest.raises(ServiceError):
        await client.get_call("call-1")
    assert vapi.requests == [GET]


async def test_a_question_is_asked_twice_at_most(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.refuse_next(503)
    vapi.break_next()
    with pytest.raises(UpstreamError, match="connection to VAPI broke"):
        await client.find_recording_url("call-1")
    assert vapi.requests == [GET_RECORDING, GET_RECORDING]


async def test_a_question_has_one_time_for_both_tries(vapi: FakeVapi, hurried: VapiClient) -> None:
    """Of one second: with a second for each, the answer after 1.4 s would be in time."""
    vapi.be_slow(0.7)
    vapi.refuse_next(503)
    with pytest.raises(UpstreamError, match="in time") as raised:
        await hurried.find_recording_url("call-1")
    assert not raised.value.is_outcome_unknown


async def test_an_unreachable_vapi_cannot_be_asked(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.go_away()
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await client.get_call("call-1")
    vapi.come_back()
    assert await client.get_call("call-1") is None


async def test_an_answer_beyond_all_measure_is_given_up(vapi: FakeVapi) -> None:
    vapi.answer_next(200, b" " * (MAX_ANSWER_BYTES + 1))
    client = VapiClient(load_settings(vapi.settings), ask_s=PATIENCE_S)  # 32 MB take seconds on a busy machine
    with pytest.raises(UpstreamError, match="cannot be read"):
        await client.get_call("call-1")
    await client.close()


async def test_no_more_connections_are_opened_than_are_allowed_and_nobody_waits_long_for_one(vapi: FakeVapi) -> None:
    client = VapiClient(load_settings(vapi.settings), ask_s=5.0, connect_s=5.0)
    vapi.be_slow(30)
    asked = [asyncio.ensure_future(client.get_call("call-1")) for _ in range(MAX_CONNECTIONS + 1)]
    errors = [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)]
    await client.close()
    assert errors.count("Too many requests to VAPI are under way here") == 1
    assert len(vapi.requests) == MAX_CONNECTIONS


async def test_a_crowd_may_dial_at_once_though_vapi_takes_its_time(vapi: FakeVapi) -> None:
    client = VapiClient(load_settings(vapi.settings), connect_s=PATIENCE_S)
    vapi.be_slow(POOL_S + 0.3)
    await asyncio.gather(*(client.create_call(order_at(vapi)) for _ in range(MAX_CONNECTIONS + 8)))
    await client.close()
    assert len(vapi.calls) == MAX_CONNECTIONS + 8


async def test_a_list_that_is_none_cannot_be_read(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.answer_next(200, {"results": []})
    with pytest.raises(UpstreamError, match="cannot be read") as raised:
        await client.list_assistants()
    assert not raised.value.is_outcome_unknown
