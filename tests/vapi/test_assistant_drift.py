"""The saved assistant against ours: equal but for what VAPI adds; what differs is shown, secrets are not."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from service.load_config import load_settings
from service.vapi.assistant.config import create_saved_assistant_config
from service.vapi.assistant.diff import diff_of, hide_secrets

OURS = create_saved_assistant_config(
    load_settings({"VAPI_WEBHOOK_URL": "https://calls.example.com/hook", "VAPI_WEBHOOK_SECRET": "the-secret"})
)
ADDED = {"id": "a-1", "orgId": "o-1", "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "x", "latestVersion": 3}


def saved(**changes: Any) -> dict[str, Any]:
    """What VAPI has: our assistant as it was pushed, and these."""
    return deepcopy(OURS) | ADDED | changes


def test_what_vapi_adds_is_no_difference() -> None:
    assert diff_of(OURS, saved(voicemailMessage=None)) == ""


def test_the_order_of_keys_is_no_difference() -> None:
    assert diff_of(OURS, dict(reversed(saved().items()))) == ""


def test_a_change_made_in_vapi_is_shown_from_there_to_here() -> None:
    difference = diff_of(OURS, saved(maxDurationSeconds=30))
    assert '-  "maxDurationSeconds": 30,\n+  "maxDurationSeconds": 600,\n' in difference


def test_what_somebody_added_in_vapi_is_shown() -> None:
    assert '-  "endCallMessage": "Bye",\n' in diff_of(OURS, saved(endCallMessage="Bye"))


def test_a_changed_sentence_of_the_prompt_is_one_changed_line() -> None:
    theirs = saved()
    prompt = theirs["model"]["messages"][0]
    prompt["content"] = prompt["content"].replace("You only collect information.", "You book.")
    lines = diff_of(OURS, theirs).splitlines()[2:]
    assert len([line for line in lines if line.startswith(("+", "-"))]) == 2


def test_another_secret_is_a_difference_that_is_not_shown() -> None:
    theirs = saved(server=deepcopy(OURS["server"]) | {"headers": {"x-vapi-secret": "an-older-one"}})
    difference = diff_of(OURS, theirs)
    assert '"x-vapi-secret": "*** (another value)"' in difference
    assert "the-secret" not in difference
    assert "an-older-one" not in difference


def test_a_server_that_vapi_lost_is_shown() -> None:
    assert "calls.example.com" in diff_of(OURS, saved(server=None))


def test_odd_servers_are_compared_all_the_same() -> None:
    assert diff_of(OURS, saved(server="x"))
    assert diff_of(OURS, saved(server={"headers": "x"}))


def test_hiding_changes_nothing_but_the_secret() -> None:
    before = deepcopy(OURS)
    assert "the-secret" not in str(hide_secrets(OURS))
    assert hide_secrets(OURS)["server"]["headers"] == {"x-vapi-secret": "***"}
    assert before == OURS
