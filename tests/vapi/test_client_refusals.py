"""VAPI's refusals become the errors that our own callers get, in one bounded line, and say nothing secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.errors import (
    InvalidRequestError,
    PaymentRequiredError,
    ServiceError,
    TooManyRequestsError,
    UpstreamError,
)
from service.load_config import load_settings
from service.vapi.client import VapiClient
from tests.support.fake_vapi import FakeVapi
from tests.vapi.conftest import order_at


async def refused(client: VapiClient) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await client.create_call({})
    return raised.value


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (400, InvalidRequestError, "known"),
        (402, PaymentRequiredError, "known"),
        (404, InvalidRequestError, "known"),
        (422, InvalidRequestError, "known"),
        (429, TooManyRequestsError, "known"),
        (401, UpstreamError, "known"),
        (403, UpstreamError, "known"),
        (408, UpstreamError, "unknown"),
        (500, UpstreamError, "unknown"),
        (502, UpstreamError, "unknown"),
        (503, UpstreamError, "known"),
        (504, UpstreamError, "unknown"),
        (307, UpstreamError, "known"),
    ],
)
async def test_each_refusal_of_a_call_has_its_error(
    vapi: FakeVapi, client: VapiClient, status: int, error: type[ServiceError], outcome: str
) -> None:
    vapi.refuse_next(status)
    raised = await refused(client)
    assert type(raised) is error
    assert getattr(raised, "is_outcome_unknown", False) is (outcome == "unknown")
    assert vapi.requests == [("POST", "/call")]


async def test_the_sentence_is_vapis_own(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.refuse_next(402, "Wallet Balance is 0.")
    assert str(await refused(client)) == "VAPI refused the call: Wallet Balance is 0."


async def test_several_reasons_are_all_told(client: VapiClient) -> None:
    sentence = str(await refused(client))
    assert "E.164" in sentence
    assert "; Couldn't Get Phone Number" in sentence


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("one\r\n  two\x00three\u2028four", "VAPI refused the call: one two three four"),
        ("your key is a-private-vapi-key", "VAPI refused the call: your key is ***"),
        ("x" * 501, "VAPI refused the call: " + "x" * 499 + "…"),
        ("x" * 500, "VAPI refused the call: " + "x" * 500),
        ("", "VAPI refused the call (400)"),
        ([], "VAPI refused the call (400)"),
        ({"unexpected": 1}, "VAPI refused the call (400)"),
        (None, "VAPI refused the call (400)"),
        ("cut \ud83d here", "VAPI refused the call: cut \ufffd here"),
    ],
)
async def test_a_reason_is_one_bounded_line_without_our_key(
    vapi: FakeVapi, client: VapiClient, said: Any, shown: str
) -> None:
    vapi.refuse_next(400, said)
    assert str(await refused(client)) == shown


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad Request</html>", b"\xff\xfe", b"[" * 60_000, b'{"message":' + b"[" * 60_000, b"x" * 2_000_000],
    ids=["nothing", "a page", "no text", "deep", "deep within", "much"],
)
async def test_a_refusal_in_other_words_is_still_one(vapi: FakeVapi, client: VapiClient, body: bytes) -> None:
    vapi.answer_next(400, body)
    assert str(await refused(client)) == "VAPI refused the call (400)"


@pytest.mark.parametrize("status", [400, 403])
async def test_a_refusal_for_want_of_a_line_is_too_many_requests(
    vapi: FakeVapi, client: VapiClient, status: int
) -> None:
    vapi.refuse_next(status, "Over Concurrency Limit. Contact support.")
    assert isinstance(await refused(client), TooManyRequestsError)


async def test_a_call_that_was_blocked_for_want_of_a_line_is_no_call(client: VapiClient, vapi: FakeVapi) -> None:
    vapi.lines = 1
    await client.create_call(order_at(vapi))
    with pytest.raises(TooManyRequestsError, match="concurrent lines are in use"):
        await client.create_call(order_at(vapi))
    assert len(vapi.calls) == 1


@pytest.mark.parametrize("limits", [None, "odd", [], {"concurrencyBlocked": None}, {"concurrencyBlocked": "true"}])
async def test_odd_limits_beside_a_call_do_not_undo_it(vapi: FakeVapi, client: VapiClient, limits: Any) -> None:
    body = json.dumps({"id": "call-1", "subscriptionLimits": limits}).encode()
    vapi.answer_next(201, body)
    assert await client.create_call({}) == body


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [("7", "7"), ("999999", "86400"), ("-1", None), ("soon", None), ("²", None), ("9" * 30, None), ("", None)],
)
async def test_vapis_retry_after_is_passed_on_where_it_is_one(
    vapi: FakeVapi, client: VapiClient, given: str, passed_on: str | None
) -> None:
    vapi.refuse_next(429, "Slow down.", headers={"Retry-After": given})
    assert (await refused(client)).headers.get("Retry-After") == passed_on


async def test_a_refusal_of_our_key_says_which_variable_and_not_what_it_holds(vapi: FakeVapi) -> None:
    client = VapiClient(load_settings({**vapi.settings, "VAPI_API_KEY": "another-key"}))
    with pytest.raises(UpstreamError, match="VAPI_API_KEY") as raised:
        await client.get_call("call-1")
    await client.close()
    assert "another-key" not in str(raised.value)


@pytest.mark.parametrize("status", [402, 429])
async def test_a_question_may_be_refused_as_well(vapi: FakeVapi, client: VapiClient, status: int) -> None:
    vapi.refuse_next(status)
    with pytest.raises(PaymentRequiredError if status == 402 else TooManyRequestsError):
        await client.get_call("call-1")


async def test_a_refused_recording_is_trouble(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.refuse_next(500)
    with pytest.raises(UpstreamError, match=r"in trouble \(500\)"):
        await client.find_recording_url("call-1")
