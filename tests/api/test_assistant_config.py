"""The assistant's configuration over HTTP: whole, for admins only, and nothing for a request that is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from service.load_config import load_settings
from service.vapi.assistant.config import create_assistant_config
from tests.support.call_requests import FULL, REQUIRED, call_request
from tests.support.replica import Replica
from tests.support.service_api import ADMIN, CREDENTIALS, READER, SECRET, connected

ASSISTANT_CONFIG = "/api/v1/vapi/assistant-config"
HOOK = "https://calls.example.com/api/v1/vapi/webhook"


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    replica = Replica(vapi_webhook_url=HOOK, max_body_bytes=50_000, **CREDENTIALS).start()
    yield replica
    replica.stop()


async def test_an_admin_gets_the_whole_configuration_with_the_secret(replica: Replica) -> None:
    async with connected(replica, **ADMIN) as admin:
        answer = await admin.post(ASSISTANT_CONFIG, json=FULL)
    assert (answer.status_code, answer.json().keys(), answer.json()["success"]) == (200, {"success", "data"}, True)
    config = answer.json()["data"]
    assert config["server"]["headers"] == {"x-vapi-secret": SECRET}
    assert config == create_assistant_config(
        call_request(**FULL), load_settings({**CREDENTIALS, "VAPI_WEBHOOK_URL": HOOK})
    ), "that VAPI knows every word of it is tested in tests/vapi/test_assistant_models.py"


@pytest.mark.parametrize(("who", "status"), [({}, 401), (READER, 403), ({"X-Vapi-Secret": SECRET}, 401)])
async def test_nobody_else_gets_it(replica: Replica, who: dict[str, str], status: int) -> None:
    async with connected(replica, **who) as other:
        answer = await other.post(ASSISTANT_CONFIG, json=REQUIRED)
    assert answer.status_code == status
    assert SECRET not in answer.text


async def test_a_wrong_request_is_told_everything_that_is_wrong(replica: Replica) -> None:
    async with connected(replica, **ADMIN) as admin:
        answer = await admin.post(ASSISTANT_CONFIG, json=REQUIRED | {"providerPhone": "555-secret", "location": ""})
    assert answer.status_code == 400
    assert answer.json() == {
        "success": False,
        "error": "Invalid call request",
        "details": [
            {
                "path": "$.providerPhone",
                "message": "must be a phone number in E.164: +, country code and number, digits only",
            },
            {"path": "$.location", "message": "must not be empty"},
        ],
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff{}",
        b'{"location": NaN}',
        b"[" * 100_0 + b"]" * 1000,
        b'{"location": "\\ud83d"}',
        b"null",
        b"[]",
    ],
    ids=["empty", "broken", "no utf-8", "nan", "deep", "half a character", "null", "list"],
)
async def test_what_is_no_request_at_all_is_refused(replica: Replica, body: bytes) -> None:
    async with connected(replica, **ADMIN) as admin:
        answer = await admin.post(ASSISTANT_CONFIG, content=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


async def test_a_body_that_is_too_large_is_refused(replica: Replica) -> None:
    async with connected(replica, **ADMIN) as admin:
        answer = await admin.post(ASSISTANT_CONFIG, json=REQUIRED | {"customPrompt": "x" * 60_000})
    assert answer.status_code == 413


async def test_a_caller_that_goes_away_in_mid_body_harms_nobody(replica: Replica) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'{"providerName": '
        raise httpx2.WriteError("gone")

    async with connected(replica, **ADMIN) as admin:
        with pytest.raises(httpx2.WriteError):
            await admin.post(ASSISTANT_CONFIG, content=half())
        assert (await admin.post(ASSISTANT_CONFIG, json=REQUIRED)).status_code == 200


async def test_it_can_only_be_posted_for(replica: Replica) -> None:
    async with connected(replica, **ADMIN) as admin:
        assert (await admin.get(ASSISTANT_CONFIG)).status_code == 405


async def test_the_list_of_endpoints_names_it(client: httpx2.AsyncClient) -> None:
    endpoints = (await client.get("/")).json()["endpoints"]
    assert ("POST", ASSISTANT_CONFIG) in {(each["method"], each["path"]) for each in endpoints}
