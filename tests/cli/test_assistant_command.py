"""``python -m service assistant``, run as a process against a VAPI that keeps assistants."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.vapi.assistant.config import ASSISTANT_NAME
from tests.support.call_requests import FULL, REQUIRED
from tests.support.commands import run
from tests.support.fake_vapi import FakeVapi

HOOK = {"vapi_webhook_url": "https://calls.example.com/api/v1/vapi/webhook", "vapi_webhook_secret": "the-secret"}


@pytest.fixture
async def vapi() -> AsyncIterator[FakeVapi]:
    async with FakeVapi() as fake:
        yield fake


def assistant(
    *arguments: str, vapi: FakeVapi | None = None, stdin: bytes | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    where: dict[str, Any] = {} if vapi is None else vapi.settings
    return run("assistant", *arguments, stdin=stdin, **{**HOOK, **where, **settings})


def named(vapi: FakeVapi) -> list[dict[str, Any]]:
    return [each for each in vapi.assistants.values() if each.get("name") == ASSISTANT_NAME]


def keep(vapi: FakeVapi, identifier: str, name: str) -> dict[str, Any]:
    """An assistant that somebody made in VAPI."""
    vapi.assistants[identifier] = {"id": identifier, "name": name, "createdAt": "2026-09-01T12:00:00.000Z"}
    return vapi.assistants[identifier]


def push(vapi: FakeVapi) -> None:
    pushed = assistant("push", vapi=vapi)
    assert pushed.returncode == 0, pushed.stderr


def test_show_prints_the_saved_assistant_with_its_secret_hidden() -> None:
    shown = assistant("show", from_nothing=True)
    config = json.loads(shown.stdout)
    assert (shown.returncode, config["name"]) == (0, ASSISTANT_NAME)
    assert config["server"]["headers"] == {"x-vapi-secret": "***"}
    assert "{{providerName}}" in config["firstMessage"]
    assert "the-secret" not in shown.stdout + shown.stderr


def test_show_reveals_the_secret_when_asked_to() -> None:
    assert json.loads(assistant("show", "--reveal").stdout)["server"]["headers"] == {"x-vapi-secret": "the-secret"}


def test_show_prints_the_assistant_of_one_call(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(FULL))
    for shown in (
        assistant("show", "--request", str(file)),
        assistant("show", "--request", "-", stdin=file.read_bytes()),
    ):
        config = json.loads(shown.stdout)
        assert config["firstMessage"].endswith("Is this Acme Plumbing?")
        assert config["metadata"]["serviceRequestId"] == "request-42"


def test_a_wrong_request_is_told_what_is_wrong() -> None:
    shown = assistant("show", "--request", "-", stdin=json.dumps(REQUIRED | {"urgency": "now"}).encode())
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "Invalid call request\n  $.urgency: must be one of immediate, " in shown.stderr


@pytest.mark.parametrize("text", [b"", b"{", b'"\xff"'])
def test_a_request_that_is_no_json_is_refused(text: bytes) -> None:
    shown = assistant("show", "--request", "-", stdin=text)
    assert (shown.returncode, shown.stderr) == (1, "-: not valid JSON\n")


def test_a_request_file_that_is_not_there_is_named() -> None:
    shown = assistant("show", "--request", "/nowhere.json")
    assert (shown.returncode, shown.stderr) == (1, "/nowhere.json: No such file or directory\n")


async def test_push_creates_the_assistant_and_then_there_is_no_difference(vapi: FakeVapi) -> None:
    pushed = assistant("push", vapi=vapi)
    [saved] = named(vapi)
    assert (pushed.returncode, pushed.stdout, pushed.stderr) == (0, f"created {saved['id']}\n", "")
    assert saved["server"]["headers"] == {"x-vapi-secret": "the-secret"}
    compared = assistant("diff", vapi=vapi)
    assert (compared.returncode, compared.stdout) == (0, "")


async def test_a_second_push_updates_the_same_assistant(vapi: FakeVapi) -> None:
    push(vapi)
    [saved] = named(vapi)
    saved["maxDurationSeconds"] = 30
    pushed = assistant("push", vapi=vapi)
    assert (pushed.returncode, pushed.stdout) == (0, f"updated {saved['id']}\n")
    assert [each["maxDurationSeconds"] for each in named(vapi)] == [600]


async def test_other_assistants_are_left_alone(vapi: FakeVapi) -> None:
    before = dict(keep(vapi, "other", "Somebody else's"))
    push(vapi)
    assert (vapi.assistants["other"], len(vapi.assistants)) == (before, 2)


async def test_diff_shows_what_was_changed_in_vapi(vapi: FakeVapi) -> None:
    push(vapi)
    named(vapi)[0]["maxDurationSeconds"] = 30
    compared = assistant("diff", vapi=vapi)
    assert compared.returncode == 1
    assert '-  "maxDurationSeconds": 30,\n+  "maxDurationSeconds": 600,\n' in compared.stdout


async def test_diff_says_that_the_secret_was_changed_without_showing_it(vapi: FakeVapi) -> None:
    push(vapi)
    compared = assistant("diff", vapi=vapi, vapi_webhook_secret="another-one,the-secret")
    assert compared.returncode == 1
    assert '-      "x-vapi-secret": "*** (another value)"' in compared.stdout
    assert not [secret for secret in ("the-secret", "another-one") if secret in compared.stdout]


async def test_diff_without_a_saved_assistant_says_what_makes_one(vapi: FakeVapi) -> None:
    compared = assistant("diff", vapi=vapi)
    assert (compared.returncode, compared.stdout) == (1, "")
    assert "push makes it" in compared.stderr


async def test_what_vapi_keeps_against_our_will_is_told(vapi: FakeVapi) -> None:
    push(vapi)
    named(vapi)[0]["endCallMessage"] = "Bye"
    pushed = assistant("push", vapi=vapi)
    assert pushed.returncode == 0
    assert "did not keep it as it was sent" in pushed.stderr


@pytest.mark.parametrize("action", ["push", "diff"])
async def test_two_of_the_same_name_are_left_for_a_person_to_sort_out(vapi: FakeVapi, action: str) -> None:
    for identifier in ("one", "two"):
        keep(vapi, identifier, ASSISTANT_NAME)
    done = assistant(action, vapi=vapi)
    assert done.returncode == 1
    assert "VAPI has 2 assistants" in done.stderr
    assert len(vapi.assistants) == 2


@pytest.mark.parametrize("action", ["push", "diff"])
async def test_vapis_refusal_is_the_commands_failure(vapi: FakeVapi, action: str) -> None:
    vapi.refuse_next(401, "Invalid Key")
    done = assistant(action, vapi=vapi)
    assert (done.returncode, done.stdout) == (1, "")
    assert "VAPI_API_KEY" in done.stderr
    assert vapi.api_key not in done.stderr


@pytest.mark.parametrize("action", ["push", "diff"])
def test_without_a_key_it_says_which_variable_is_missing(action: str) -> None:
    done = assistant(action)
    assert (done.returncode, done.stderr) == (2, "VAPI_API_KEY: must be set for this command\n")
