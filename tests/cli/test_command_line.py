"""The command line, run as a process against a replica that is closed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from service import __version__
from tests.support.commands import run
from tests.support.redis_server import RedisProcess, free_port
from tests.support.replica import ROOT, Replica
from tests.support.vapi_sender import full_report, sample, status_update

SECRET, READ, ADMIN = "the-webhook-secret", "the-read-token", "the-admin-token"


@pytest.fixture(scope="module")
def settings(redis_process: RedisProcess) -> Iterator[dict[str, Any]]:
    """The environment of a closed replica that serves, and of the commands that talk to it."""
    credentials = {"vapi_webhook_secret": SECRET, "api_read_tokens": READ, "api_admin_tokens": ADMIN}
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="commands", **credentials).start()
    yield {**credentials, "port": replica.port}
    replica.stop()


def send(settings: dict[str, Any], body: Any, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))
    assert run("send-webhook", "--file", str(file), **settings).returncode == 0


def test_the_version_is_printed() -> None:
    assert run("--version", from_nothing=True).stdout.strip() == __version__


def test_an_unknown_command_is_refused_with_exit_status_2() -> None:
    assert run("make-coffee").returncode == 2


def test_the_settings_are_printed_and_the_secrets_hidden() -> None:
    hidden: dict[str, Any] = {
        "vapi_webhook_secret": "alpha-1,beta-2", "api_read_tokens": "gamma-3", "api_admin_tokens": "delta-4",
        "vapi_api_key": "epsilon-5", "kestra_username": "somebody", "kestra_password": "zeta-6", "kestra_token": "eta-7",
        "database_url": "postgresql://user:theta-8@db/x", "redis_url": "redis://user:iota-9@redis.example:6379/2",
    }  # fmt: skip
    result = run("check-config", from_nothing=True, max_wait_s=12.5, log_level="debug", **hidden)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert {"MAX_WAIT_S=12.5", "LOG_LEVEL=debug", "RESULT_TTL_S=1800", "VAPI_WEBHOOK_SECRET=***,***"} <= set(lines)
    for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta-7", "theta", "iota"):
        assert word not in result.stdout + result.stderr


def test_a_wrong_setting_is_found_without_starting() -> None:
    result = run("check-config", port="none")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("PORT: ")


def test_an_address_of_another_machine_is_found_without_starting() -> None:
    result = run("check-config", host="192.0.2.7", api_admin_tokens=ADMIN)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("HOST: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_stops_the_start_with_one_line_that_names_it(
    settings: dict[str, Any], redis_process: RedisProcess, workers: int
) -> None:
    result = run("serve", **settings, redis_url=redis_process.url, workers=workers, from_nothing=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("PORT: ")


def test_the_settings_of_a_running_replica_can_be_checked(settings: dict[str, Any]) -> None:
    assert run("check-config", **settings).returncode == 0


@pytest.mark.parametrize("auth", ["secret", "bearer", "hmac", "legacy"])
def test_a_webhook_is_sent_with_every_proof_that_vapi_can_give(settings: dict[str, Any], auth: str) -> None:
    call_id = f"proven-{uuid.uuid4()}"
    result = run("send-webhook", "--auth", auth, "--call-id", call_id, **settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["callId"] == call_id
    assert json.loads(run("show-call", call_id, **settings).stdout)["data_status"] == "complete"


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_a_signed_webhook_follows_the_configured_scheme(redis_process: RedisProcess, encoding: str) -> None:
    scheme: dict[str, Any] = {
        "vapi_webhook_secret": "c2VjcmV0LWtleQ==", "vapi_webhook_auth": "hmac", "vapi_hmac_algorithm": "sha512",
        "vapi_hmac_encoding": encoding, "vapi_hmac_prefix": "v1=", "vapi_hmac_secret_is_base64": 1,
        "vapi_hmac_payload_format": "{svix-id}.{timestamp}.{method}.{url}.{body}",
        "vapi_hmac_signature_header": "X-Ours", "vapi_webhook_url": "https://hooks.example/vapi",
    }  # fmt: skip
    replica = Replica(redis_url=redis_process.url, redis_key_prefix="commands", **scheme).start()
    try:
        assert run("send-webhook", "--auth", "hmac", port=replica.port, **scheme).returncode == 0
        assert run("send-webhook", "--auth", "secret", port=replica.port, **scheme).returncode == 1
    finally:
        replica.stop()


def test_a_webhook_without_proof_is_refused_and_the_answer_shown(settings: dict[str, Any]) -> None:
    result = run("send-webhook", "--auth", "none", **settings)
    assert result.returncode == 1
    assert result.stderr.startswith("401: ")
    assert "Invalid webhook signature" in result.stderr


@pytest.mark.parametrize("name", ["end-of-call-report", "status-update", "hang"])
def test_each_sample_is_taken(settings: dict[str, Any], name: str) -> None:
    result = run("send-webhook", "--sample", name, **settings)
    assert result.returncode == 0
    assert json.loads(result.stdout)["message"] == f"Webhook processed: {name}"


def test_without_a_secret_it_is_said_that_nothing_is_proven(settings: dict[str, Any]) -> None:
    result = run("send-webhook", port=settings["port"])
    assert result.returncode == 1
    assert "VAPI_WEBHOOK_SECRET is not set: sent without a proof" in result.stderr


def test_a_reader_that_has_enough_ends_a_command_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "service", "check-config"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert done.stderr == b""


def test_a_file_and_standard_input_are_sent_as_they_are(settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(sample("outbound-end-of-call-report-full", "from-a-file")))
    body = json.dumps(sample("outbound-end-of-call-report-full", "from-stdin")).encode()
    assert json.loads(run("send-webhook", "--file", str(file), **settings).stdout)["callId"] == "from-a-file"
    assert json.loads(run("send-webhook", "--file", "-", stdin=body, **settings).stdout)["callId"] == "from-stdin"


def test_a_file_that_is_not_there_is_named(settings: dict[str, Any]) -> None:
    result = run("send-webhook", "--file", "/nowhere/report.json", **settings)
    assert result.returncode == 1
    assert "/nowhere/report.json" in result.stderr


def test_an_unknown_call_is_said_to_be_so(settings: dict[str, Any]) -> None:
    result = run("show-call", "nobody", **settings)
    assert result.returncode == 1
    assert result.stderr.startswith("404: ")


def test_a_wrong_token_is_said_to_be_so(settings: dict[str, Any]) -> None:
    result = run("show-call", "nobody", "--token", "wrong", **settings)
    assert result.returncode == 1
    assert result.stderr.startswith("401: ")


def test_a_summary_lacks_the_transcript(settings: dict[str, Any], tmp_path: Path) -> None:
    send(settings, full_report("summarised"), tmp_path)
    record = json.loads(run("show-call", "summarised", "--view", "summary", **settings).stdout)
    assert "transcript" not in record
    assert record["analysis_summary"] == "They said hello."


def test_waiting_prints_the_final_record(settings: dict[str, Any], tmp_path: Path) -> None:
    send(settings, full_report("waited"), tmp_path)
    result = run("wait", "waited", **settings)
    assert (result.returncode, json.loads(result.stdout)["data_status"]) == (0, "complete")


def test_waiting_for_kestra_prints_one_line_of_outputs(settings: dict[str, Any], tmp_path: Path) -> None:
    send(settings, sample("outbound-end-of-call-report-full", "for-kestra"), tmp_path)
    result = run("wait", "for-kestra", "--kestra", **settings)
    assert result.returncode == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith('::{"outputs":')
    assert line.endswith("}::")
    assert json.loads(line[2:-2])["outputs"]["call_result"]["call_id"] == "for-kestra"


def test_waiting_in_vain_ends_with_exit_status_1(settings: dict[str, Any], tmp_path: Path) -> None:
    send(settings, status_update("ringing", "still-ringing"), tmp_path)
    result = run("wait", "still-ringing", "--timeout", "0.5", "--kestra", **settings)
    assert (result.returncode, result.stdout) == (1, "")
    assert "still-ringing" in result.stderr


def test_the_last_instant_of_a_wait_is_asked_for_as_well(settings: dict[str, Any], tmp_path: Path) -> None:
    send(settings, status_update("ringing", "ringing-on"), tmp_path)
    result = run("wait", "ringing-on", "--timeout", "0.00009", **settings)
    assert "No final record" in result.stderr


class PassingTrouble(BaseHTTPRequestHandler):
    """A load balancer whose replicas are being restarted: two failures of its own, then the record."""

    answers: ClassVar = [(502, b"<html>Bad Gateway</html>"), (504, b""), (200, b'{"success":true,"data":{"a":1}}')]

    def do_GET(self) -> None:
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


def test_waiting_outlasts_a_load_balancer_without_replicas() -> None:
    with HTTPServer(("127.0.0.1", 0), PassingTrouble) as balancer, ThreadPoolExecutor() as pool:
        serving = pool.submit(balancer.serve_forever)
        result = run("wait", "a", "--url", f"http://127.0.0.1:{balancer.server_port}")
        balancer.shutdown()
        serving.result()
    assert (result.returncode, json.loads(result.stdout)) == (0, {"a": 1})


@pytest.mark.parametrize("command", [["show-call", "a"], ["send-webhook"], ["wait", "a", "--timeout", "0.3"]], ids=str)
def test_a_service_that_does_not_answer_is_named(command: list[str]) -> None:
    port = free_port()
    result = run(*command, port=port, from_nothing=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"http://127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:notaport", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_said_to_be_so(url: str) -> None:
    result = run("show-call", "a", "--url", url)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
