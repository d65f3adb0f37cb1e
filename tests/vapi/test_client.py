"""What VAPI is asked and told, and what of its answers the rest of the service gets."""

from __future__ import annotations

import json

import pytest

from service.config import Settings
from service.errors import InvalidRequestError, NotConfiguredError, NotFoundError, UpstreamError
from service.load_config import load_settings
from service.vapi.client import VapiClient, is_link
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_webhooks import Plan
from tests.vapi.conftest import ORDER, order_at


async def test_without_a_key_there_is_no_client() -> None:
    with pytest.raises(NotConfiguredError, match="VAPI_API_KEY"):
        VapiClient(Settings())


async def test_a_client_of_the_real_vapi_checks_its_certificates_and_opens_nothing_before_it_is_used() -> None:
    client = VapiClient(load_settings({"VAPI_API_KEY": "a-key"}))
    await client.close()


async def test_a_placed_call_is_answered_as_vapi_gave_it(vapi: FakeVapi, client: VapiClient) -> None:
    call = json.loads(await client.create_call(order_at(vapi)))
    assert call["status"] == "queued"
    assert call["metadata"] == ORDER["metadata"]
    assert list(vapi.calls) == [call["id"]]


async def test_a_call_is_ordered_with_our_key_as_json_and_in_plain(vapi: FakeVapi, client: VapiClient) -> None:
    await client.create_call(order_at(vapi))
    (request,) = vapi.received
    assert request.headers["authorization"] == f"Bearer {vapi.api_key}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.json == order_at(vapi)


async def test_an_address_with_a_path_of_its_own_is_kept(vapi: FakeVapi) -> None:
    client = VapiClient(load_settings({**vapi.settings, "VAPI_API_URL": f"{vapi.url}/proxy/"}))
    with pytest.raises(InvalidRequestError):
        await client.create_call(ORDER)
    await client.close()
    assert vapi.requests == [("POST", "/proxy/call")]


async def test_a_call_can_be_read(vapi: FakeVapi, client: VapiClient) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    body = await client.get_call(call_id)
    assert body is not None
    assert json.loads(body) == vapi.calls[call_id]


async def test_a_call_that_vapi_does_not_know_is_none(client: VapiClient) -> None:
    assert await client.get_call("no-such-call") is None


async def test_a_call_whose_id_vapi_does_not_take_for_one_is_none(vapi: FakeVapi, client: VapiClient) -> None:
    vapi.refuse_next(400, ["id must be a UUID"])
    assert await client.get_call("call-1") is None


async def test_an_id_never_reaches_another_route(vapi: FakeVapi, client: VapiClient) -> None:
    assert await client.get_call("../assistant?limit=1#") is None
    assert [(request.method, request.query) for request in vapi.received] == [("GET", {})]
    assert vapi.received[0].path.startswith("/call/")


async def test_a_recording_has_a_link_that_is_fresh_each_time(vapi: FakeVapi, client: VapiClient) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    links = {await client.find_recording_url(call_id) for _ in range(2)}
    assert len(links) == 2
    assert all(link is not None and is_link(link) for link in links)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_call_without_a_recording_has_no_link(vapi: FakeVapi, client: VapiClient, status: int) -> None:
    vapi.refuse_next(status, "no recording")
    assert await client.find_recording_url(vapi.add_call()) is None


@pytest.mark.parametrize(
    "location",
    [None, "", "/storage/x", "//storage.example/x", "ftp://storage.example/x", "javascript:alert(1)",
     "https://", "https://storage.example/\u00e9", "https://storage.example/a b", "https://s.example/" + "x" * 8200],
)  # fmt: skip
async def test_a_link_that_is_no_web_address_is_trouble(
    vapi: FakeVapi, client: VapiClient, location: str | None
) -> None:
    vapi.answer_next(302, b"", headers={} if location is None else {"location": location})
    with pytest.raises(UpstreamError, match="no usable link"):
        await client.find_recording_url("call-1")


async def test_a_link_is_not_followed(vapi: FakeVapi, client: VapiClient) -> None:
    call_id = vapi.add_call()
    await vapi.run_call(call_id, plan=Plan(is_silent=True))
    await client.find_recording_url(call_id)
    assert vapi.requests == [("GET", f"/call/{call_id}/mono-recording")]


async def test_an_assistant_is_kept_listed_found_and_changed(vapi: FakeVapi, client: VapiClient) -> None:
    made = await client.create_assistant({"name": "One", "firstMessage": "Hello."})
    changed = await client.update_assistant(made["id"], {"firstMessage": "Hi."})
    assert (changed["name"], changed["firstMessage"]) == ("One", "Hi.")
    assert await client.get_assistant(made["id"]) == changed
    assert await client.list_assistants() == [changed]
    assert vapi.received[-1].query == {"limit": "1000"}


async def test_an_assistant_that_is_not_there_cannot_be_got(client: VapiClient) -> None:
    with pytest.raises(NotFoundError, match="no such assistant"):
        await client.get_assistant("none")


async def test_an_assistant_that_vapi_objects_to_is_refused_with_its_reason(client: VapiClient) -> None:
    with pytest.raises(InvalidRequestError, match="VAPI refused the assistant: name must be shorter"):
        await client.create_assistant({"name": "x" * 41})


async def test_a_phone_number_can_be_read(vapi: FakeVapi, client: VapiClient) -> None:
    assert await client.get_phone_number(vapi.phone_number_id) == vapi.phone_numbers[vapi.phone_number_id]
    with pytest.raises(NotFoundError):
        await client.get_phone_number("nobodys")
