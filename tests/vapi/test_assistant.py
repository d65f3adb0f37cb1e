"""The assistant's configuration: where VAPI reports to and how it proves itself, what it sends, how a call may end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.load_config import load_settings
from service.vapi.assistant.config import (
    ASSISTANT_NAME,
    create_assistant_config,
    create_saved_assistant_config,
    metadata_of,
)
from service.vapi.context import PROVIDER_KEYS
from tests.support.call_requests import FULL, OPTIONAL, REQUIRED, call_request

URL = "https://calls.example.com/api/v1/vapi/webhook"
SECRETS = {"VAPI_WEBHOOK_URL": URL, "VAPI_WEBHOOK_SECRET": "new-secret,old-secret"}


def config_with(**environment: str) -> dict[str, Any]:
    return create_assistant_config(call_request(), load_settings(environment))


def headers_with(**environment: str) -> Any:
    return config_with(**environment)["server"].get("headers")


def test_vapi_reports_to_us_and_tries_again() -> None:
    server = config_with(**SECRETS)["server"]
    assert (server["url"], server["timeoutSeconds"]) == (URL, 20)
    plan = server["backoffPlan"]
    assert (plan["type"], plan["maxRetries"], plan["baseDelaySeconds"]) == ("exponential", 8, 1)


@pytest.mark.parametrize("status", [400, 401, 413, 415])
def test_a_message_that_we_refuse_for_good_is_not_sent_again(status: int) -> None:
    assert status in config_with(**SECRETS)["server"]["backoffPlan"]["excludedStatusCodes"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_message_that_may_succeed_later_is_sent_again(status: int) -> None:
    assert status not in config_with(**SECRETS)["server"]["backoffPlan"]["excludedStatusCodes"]


def test_the_first_of_several_secrets_is_sent() -> None:
    assert headers_with(**SECRETS) == {"x-vapi-secret": "new-secret"}


def test_the_secret_goes_in_the_header_that_is_asked_for() -> None:
    assert headers_with(**SECRETS, VAPI_SECRET_HEADER="X-Our-Secret") == {"X-Our-Secret": "new-secret"}


def test_where_only_bearer_is_accepted_it_goes_there() -> None:
    assert headers_with(**SECRETS, VAPI_WEBHOOK_AUTH="hmac,bearer") == {"Authorization": "Bearer new-secret"}


@pytest.mark.parametrize("environment", [{"VAPI_WEBHOOK_URL": URL}, SECRETS | {"VAPI_WEBHOOK_AUTH": "hmac,legacy"}])
def test_without_a_secret_to_send_there_are_no_headers(environment: dict[str, str]) -> None:
    assert headers_with(**environment) is None


def test_without_a_webhook_url_the_phone_numbers_server_is_left_to_vapi() -> None:
    assert "server" not in config_with(VAPI_WEBHOOK_SECRET="s")


def test_only_the_messages_that_we_keep_are_sent() -> None:
    assert config_with()["serverMessages"] == ["end-of-call-report", "status-update"]


def test_the_metadata_says_whom_the_call_was_for() -> None:
    metadata = create_assistant_config(call_request(**OPTIONAL), load_settings({}))["metadata"]
    assert metadata == {name: FULL[name] for name in (*REQUIRED, "serviceRequestId", "providerId")}


def test_metadata_leaves_out_what_was_not_given() -> None:
    assert metadata_of(call_request()) == REQUIRED


def test_the_record_finds_its_context_in_the_metadata() -> None:
    assert metadata_of(call_request(**OPTIONAL)).keys() - PROVIDER_KEYS.keys() == {"providerId"}


def test_the_assistant_says_what_it_is_and_that_it_records() -> None:
    said = config_with()["firstMessage"]
    assert "AI assistant" in said
    assert "recorded" in said
    assert said.endswith("Is this Acme Plumbing?")


def test_the_assistant_can_hang_up_and_every_call_ends() -> None:
    config = config_with()
    assert {"type": "endCall"} in config["model"]["tools"]
    assert config["maxDurationSeconds"] == 600
    ends = [hook for hook in config["hooks"] if hook["do"] == [{"type": "tool", "tool": {"type": "endCall"}}]]
    assert [hook["options"]["timeoutSeconds"] for hook in ends] == [30]


def test_no_phrase_of_the_assistants_hangs_up_by_itself() -> None:
    assert "endCallPhrases" not in config_with()


def test_voicemail_is_noticed_and_gets_no_message() -> None:
    config = config_with()
    assert config["voicemailDetection"]["provider"] == "vapi"
    assert "voicemailMessage" not in config


def test_nobody_can_listen_in_with_what_a_webhook_holds() -> None:
    assert config_with()["monitorPlan"] == {"listenEnabled": False, "controlEnabled": False}


def test_vapi_takes_the_name() -> None:
    assert config_with()["name"] == ASSISTANT_NAME
    assert len(ASSISTANT_NAME) <= 40


def test_a_configuration_is_the_callers_own() -> None:
    first = config_with(**SECRETS)
    first["server"]["backoffPlan"]["excludedStatusCodes"].append(503)
    first["model"]["tools"][0]["type"] = "changed"
    assert json.dumps(config_with(**SECRETS)) != json.dumps(first)
    assert config_with(**SECRETS)["model"]["tools"][0] == {"type": "endCall"}


def test_the_saved_assistant_differs_in_the_request_alone() -> None:
    settings = load_settings(SECRETS)
    saved, placed = create_saved_assistant_config(settings), create_assistant_config(call_request(), settings)
    assert {name for name in placed if placed[name] != saved.get(name)} == {"firstMessage", "model", "metadata"}
    assert {name for name in placed["model"] if placed["model"][name] != saved["model"][name]} == {"messages"}
