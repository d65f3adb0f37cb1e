"""``python -m service call``, run as a process: it talks to a replica, and the replica to VAPI."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.call_requests import REQUIRED
from tests.support.commands import run
from tests.support.fake_vapi import FakeVapi
from tests.support.redis_server import RedisProcess, free_port
from tests.support.replica import Replica


@pytest.fixture(scope="module")
def vapi() -> Iterator[FakeVapi]:
    with asyncio.Runner() as runner:
        fake = runner.run(FakeVapi().__aenter__())
        yield fake
        runner.run(fake.__aexit__())


@pytest.fixture(scope="module")
def settings(redis_process: RedisProcess, vapi: FakeVapi) -> Iterator[dict[str, Any]]:
    """The environment of the commands that talk to the replica."""
    tokens = {"api_read_tokens": "the-read-token", "api_admin_tokens": "the-admin-token"}
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="calling", **tokens, **vapi.settings).start()
    yield {**tokens, "port": replica.port}
    replica.stop()


def call(settings: dict[str, Any], request: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("call", "--request", "-", *arguments, stdin=json.dumps(request).encode(), **settings)


def test_a_call_is_placed_and_what_became_of_it_is_printed(vapi: FakeVapi, settings: dict[str, Any]) -> None:
    result = call(settings, REQUIRED)
    assert (result.returncode, result.stderr) == (0, "")
    placed = json.loads(result.stdout)
    assert placed["call_id"] in vapi.calls
    assert json.loads(run("show-call", placed["call_id"], **settings).stdout)["status"] == "queued"


def test_a_file_is_read(vapi: FakeVapi, settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUIRED))
    result = run("call", "--request", str(file), "--method", "vapi", **settings, from_nothing=True)
    assert json.loads(result.stdout)["call_id"] in vapi.calls


def test_the_same_key_phones_only_once(vapi: FakeVapi, settings: dict[str, Any]) -> None:
    before = len(vapi.calls)
    printed = [call(settings, REQUIRED, "--idempotency-key", "of-the-command-line").stdout for _ in range(2)]
    assert printed[0] == printed[1]
    assert len(vapi.calls) == before + 1


def test_the_method_goes_along(settings: dict[str, Any]) -> None:
    result = call(settings, REQUIRED, "--method", "kestra")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("501: ")
    assert "KESTRA_URL" in result.stderr


def test_a_refusal_is_shown(settings: dict[str, Any]) -> None:
    result = call(settings, {})
    assert result.returncode == 1
    assert result.stderr.startswith("400: ")
    assert "$.providerPhone" in result.stderr


def test_a_readers_token_is_not_enough(settings: dict[str, Any]) -> None:
    result = call(settings, REQUIRED, "--token", "the-read-token")
    assert (result.returncode, result.stderr[:5]) == (1, "403: ")


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000], ids=["nothing", "half", "deep"])
def test_what_is_no_json_is_said_to_be_so(settings: dict[str, Any], text: bytes) -> None:
    result = run("call", "--request", "-", stdin=text, **settings)
    assert (result.returncode, "not valid JSON" in result.stderr, "Traceback" in result.stderr) == (1, True, False)


def test_a_file_that_is_not_there_is_named(settings: dict[str, Any]) -> None:
    result = run("call", "--request", "/nowhere/request.json", **settings)
    assert (result.returncode, "/nowhere/request.json" in result.stderr) == (1, True)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--request", "-", "--method", "smoke-signals"]])
def test_a_wrong_command_line_is_exit_status_2(arguments: list[str]) -> None:
    assert run("call", *arguments, stdin=b"{}").returncode == 2


def test_a_service_that_does_not_answer_is_named() -> None:
    port = free_port()
    result = call({"port": port}, REQUIRED)
    assert (result.returncode, f"http://127.0.0.1:{port}" in result.stderr) == (1, True)
