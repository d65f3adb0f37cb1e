"""What the doctor says about a VAPI account that reports to the wrong place, without proof, or not at all."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.load_config import load_settings
from service.vapi.assistant.config import ASSISTANT_NAME, create_saved_assistant_config
from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose
from tests.support.fake_vapi import FakeVapi
from tests.support.fake_vapi_calls import iso, now_ms

HOOK = "https://calls.example.com/api/v1/vapi/webhook"
SECRET = "the-webhook-secret"
OURS = {"vapi_webhook_url": HOOK, "vapi_webhook_secret": f"{SECRET},the-one-before"}
PLAN = {"type": "exponential", "maxRetries": 8, "baseDelaySeconds": 1, "excludedStatusCodes": [400, 401]}
SERVER: dict[str, Any] = {"url": HOOK, "headers": {"X-Vapi-Secret": SECRET}, "backoffPlan": PLAN}


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


def diagnose_vapi(vapi: FakeVapi, **settings: Any) -> Diagnosis:
    return diagnose("--url", NOBODY_THERE, **{**vapi.settings, **OURS, **settings})


def keep(vapi: FakeVapi, identifier: str = "assistant-1", **changes: Any) -> dict[str, Any]:
    """Our assistant as ``assistant push`` saves it, with what somebody has changed since."""
    config = create_saved_assistant_config(load_settings({name.upper(): value for name, value in OURS.items()}))
    at = iso(now_ms())
    vapi.assistants[identifier] = {
        **copy.deepcopy(config),
        "id": identifier,
        "createdAt": at,
        "updatedAt": at,
        **changes,
    }
    return vapi.assistants[identifier]


def number_of(vapi: FakeVapi) -> dict[str, Any]:
    return vapi.phone_numbers[vapi.phone_number_id]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SERVER.items() if key != name}


async def test_an_account_as_we_set_it_up_is_well_and_nothing_is_changed_in_it(vapi: FakeVapi) -> None:
    keep(vapi)
    diagnosis = diagnose_vapi(vapi)
    assert diagnosis.troubles("vapi") == []
    assert [each.check for each in diagnosis.of("vapi")] == ["key", "placed calls", "assistant", "number"]
    assert {method for method, _ in vapi.requests} == {"GET"}


async def test_an_empty_account_is_well_since_calls_bring_their_own_assistant(vapi: FakeVapi) -> None:
    assert diagnose_vapi(vapi).troubles("vapi") == []


async def test_a_key_that_vapi_refuses_is_one_error(vapi: FakeVapi) -> None:
    diagnosis = diagnose_vapi(vapi, vapi_api_key="not-the-key-of-anybody")
    assert diagnosis.troubles("vapi") == ["key: error"]
    assert "VAPI_API_KEY" in diagnosis.one("vapi", "key").found


async def test_a_vapi_that_is_away_is_one_error(vapi: FakeVapi) -> None:
    vapi.go_away()
    assert diagnose_vapi(vapi).troubles("vapi") == ["key: error"]


async def test_a_vapi_that_is_silent_delays_no_other_check(vapi: FakeVapi) -> None:
    vapi.hang_next()
    diagnosis = diagnose_vapi(vapi)
    assert (diagnosis.level("vapi", "key"), len(diagnosis.of("redis"))) == ("error", 1)


@pytest.mark.parametrize(
    ("server", "level", "word"),
    [
        ({**SERVER, "url": "https://elsewhere.example.com/hook?token=do-not-show"}, "error", "elsewhere.example.com/hook?***"),
        (without("headers"), "error", "sends no proof"),
        ({**SERVER, "headers": {"X-Vapi-Secret": "an-old-one"}}, "error", "no secret fits"),
        ({**without("headers"), "secret": "an-old-one"}, "error", "no secret fits"),
        ({**SERVER, "headers": ["odd"], "secret": 5}, "error", "no secret fits"),
        (without("backoffPlan"), "warning", "has no backoffPlan"),
        ({**SERVER, "backoffPlan": {**PLAN, "maxRetries": 0}}, "warning", "has no backoffPlan"),
        ({**SERVER, "backoffPlan": {**PLAN, "maxRetries": 1}}, "warning", "only 1 times"),
        ({**SERVER, "backoffPlan": {**PLAN, "excludedStatusCodes": [503, 400]}}, "warning", "never repeats after 503"),
        ({**SERVER, "backoffPlan": "odd"}, "warning", "has no backoffPlan"),
        ({**SERVER, "encryptedPaths": ["message"]}, "error", "encrypts"),
        (None, "warning", "has no server.url"),
        ("odd", "warning", "has no server.url"),
    ],
)  # fmt: skip
async def test_a_wrong_server_of_the_assistant_is_found(vapi: FakeVapi, server: Any, level: str, word: str) -> None:
    keep(vapi, server=server)
    diagnosis = diagnose_vapi(vapi)
    found = diagnosis.one("vapi", "assistant")
    assert (found.level, word in found.found) == (level, True), found
    for secret in (SECRET, "an-old-one", "do-not-show", vapi.api_key):
        assert secret not in diagnosis.printed


@pytest.mark.parametrize(
    "server",
    [
        {**SERVER, "url": HOOK + "/"},
        {**SERVER, "url": "https://CALLS.example.com:443/api/v1/vapi/webhooks/vapi"},
        {**SERVER, "headers": {"x-vapi-secret": "Bearer the-one-before"}},
        {**SERVER, "headers": {"Authorization": f"Bearer {SECRET}"}},
        {**without("headers"), "secret": SECRET},
        {**without("headers"), "credentialId": "a-credential"},
    ],
)
async def test_other_ways_to_say_the_same_are_no_errors(vapi: FakeVapi, server: Any) -> None:
    keep(vapi, server=server)
    assert diagnose_vapi(vapi).level("vapi", "assistant") == "ok"


@pytest.mark.parametrize(
    ("messages", "level", "word"),
    [
        (None, "warning", "94 webhooks"),
        (["status-update"], "error", "no result ever comes"),
        (["end-of-call-report"], "warning", "lacks status-update"),
        (["end-of-call-report", "status-update", "conversation-update"], "warning", "conversation-update"),
        ("odd", "warning", "94 webhooks"),
    ],
)
async def test_wrong_server_messages_are_found(vapi: FakeVapi, messages: Any, level: str, word: str) -> None:
    keep(vapi, serverMessages=messages)
    found = diagnose_vapi(vapi).one("vapi", "assistant")
    assert (found.level, word in found.found) == (level, True), found


async def test_an_assistant_of_another_version_is_pointed_out(vapi: FakeVapi) -> None:
    keep(vapi, maxDurationSeconds=30)
    found = diagnose_vapi(vapi).one("vapi", "assistant")
    assert (found.level, "assistant diff" in str(found.advice)) == ("warning", True)


async def test_two_assistants_of_our_name_are_an_error(vapi: FakeVapi) -> None:
    keep(vapi, "one")
    keep(vapi, "two")
    assert diagnose_vapi(vapi).troubles("vapi") == ["assistant: error"]


async def test_a_number_that_vapi_does_not_know_is_an_error(vapi: FakeVapi) -> None:
    assert diagnose_vapi(vapi, vapi_phone_number_id="+18645550100").troubles("vapi") == ["number: error"]


async def test_a_number_that_reports_elsewhere_is_an_error(vapi: FakeVapi) -> None:
    number_of(vapi)["server"] = {**SERVER, "url": "https://elsewhere.example.com/"}
    assert diagnose_vapi(vapi).troubles("vapi") == ["number: error"]


async def test_a_number_that_is_blocked_is_an_error(vapi: FakeVapi) -> None:
    number_of(vapi)["status"] = "blocked"
    found = diagnose_vapi(vapi).one("vapi", "number")
    assert (found.level, "blocked" in found.found) == ("error", True)


async def test_the_assistant_that_answers_the_number_is_looked_at_too(vapi: FakeVapi) -> None:
    keep(vapi, "reception", name="Reception", server={**SERVER, "headers": {}})
    number_of(vapi)["assistantId"] = "reception"
    assert diagnose_vapi(vapi).troubles("vapi") == ["number's assistant: error"]


async def test_without_any_server_nothing_would_ever_come(vapi: FakeVapi) -> None:
    diagnosis = diagnose_vapi(vapi, vapi_webhook_url="")
    assert diagnosis.troubles("vapi") == ["placed calls: warning", "number: error"]


async def test_signatures_cannot_be_asked_for_by_calls_that_we_place(vapi: FakeVapi) -> None:
    assert diagnose_vapi(vapi, vapi_webhook_auth="hmac").troubles("vapi") == ["placed calls: warning"]


async def test_a_hostile_name_cannot_write_on_the_terminal(vapi: FakeVapi) -> None:
    keep(vapi, "one", id="\x1b[2Jgone\nok  redis")
    keep(vapi, "two", name=ASSISTANT_NAME)
    diagnosis = diagnose_vapi(vapi)
    assert "\\u001b" not in diagnosis.printed
    assert "\x1b" not in diagnosis.printed


def test_a_number_without_a_key_is_pointed_out() -> None:
    assert diagnose("--url", NOBODY_THERE, vapi_phone_number_id="some-id").troubles("vapi") == ["key: warning"]
