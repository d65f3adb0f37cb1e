"""Starting: a wrong setting stops it with one line, a missing secret too; a missing Redis does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from service.cli.main import main
from tests.support.commands import run
from tests.support.eventually import eventually
from tests.support.for_each import for_each
from tests.support.redis_server import RedisProcess, free_port
from tests.support.replica import Replica
from tests.support.traffic import post_until_taken, post_webhook
from tests.support.vapi_sender import full_report

WRONG = {
    "PORT": ["abc", "70000", "-1"],
    "WORKERS": ["0", "two", "1.5"],
    "REDIS_URL": ["http://127.0.0.1", "127.0.0.1:6379", "redis://127.0.0.1:notaport"],
    "REDIS_KEY_PREFIX": ["a b"],
    "RESULT_TTL_S": ["0", "-1", "1h"],
    "STORE_TIMEOUT_S": ["0", "nan", "1.3", "3600"],
    "STORE_FAILURE_STATUS": ["418"],
    "VAPI_WEBHOOK_AUTH": ["secret,magic"],
    "VAPI_HMAC_ALGORITHM": ["md5"],
    "VAPI_HMAC_PAYLOAD_FORMAT": ["{timestamp}"],
    "ALLOW_UNAUTHENTICATED": ["maybe"],
    "MAX_BODY_BYTES": ["0", "10MB"],
    "MAX_WAIT_S": ["0", "forever"],
    "DRAIN_S": ["-1", "nan"],
    "VAPI_API_URL": ["http://vapi.example", "ftp://127.0.0.1"],
    "KESTRA_URL": ["kestra:8080"],
    "LOG_LEVEL": ["loud"],
    "LOG_FORMAT": ["xml"],
}


@for_each(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    with monkeypatch.context() as environment:
        environment.setenv(name, value)
        assert main(["check-config"]) == 2
    printed = capsys.readouterr()
    assert len((printed.out + printed.err).strip().splitlines()) == 1
    assert printed.err.startswith(f"{name}: ")


@for_each("name", ["PORT", "WORKERS", "REDIS_URL", "LOG_FORMAT"])
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(name: str) -> None:
    settings: dict[str, Any] = {"PORT": "0", name: WRONG[name][0]}
    result = run(**settings, from_nothing=True)
    assert result.returncode == 2
    assert len((result.stdout + result.stderr).strip().splitlines()) == 1
    assert result.stderr.startswith(f"{name}: ")


def test_an_endless_longest_wait_is_refused() -> None:
    assert run("check-config", max_wait_s="inf").returncode == 2


def test_a_header_name_that_is_none_is_refused() -> None:
    assert run("check-config", vapi_secret_header="no header:").returncode == 2


def test_a_wrong_address_of_redis_stops_the_start_with_several_workers_too() -> None:
    result = run(port=0, workers=2, redis_url="redis://127.0.0.1:notaport")
    assert result.returncode == 2
    assert result.stderr.startswith("REDIS_URL: ")


def test_a_wrong_secret_is_not_repeated() -> None:
    result = run(vapi_webhook_secret="not-base64!", vapi_hmac_secret_is_base64=1)
    assert result.returncode == 2
    assert "not-base64!" not in result.stdout + result.stderr


def test_the_embedded_store_with_several_workers_is_refused_in_one_line() -> None:
    result = run(port=0, workers=2, redis_url="memory://")
    assert result.returncode == 2
    assert result.stderr.startswith("WORKERS: ")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "service.example"])
def test_without_secrets_an_address_that_others_reach_is_refused_and_says_what_is_missing(host: str) -> None:
    result = run(port=0, host=host)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for variable in ("VAPI_WEBHOOK_SECRET", "API_READ_TOKENS", "API_ADMIN_TOKENS", "ALLOW_UNAUTHENTICATED"):
        assert variable in result.stderr


@pytest.mark.parametrize("settings", [{"allow_unauthenticated": 1}, {"vapi_webhook_secret": "s"}], ids=str)
async def test_an_address_that_others_reach_is_served_once_it_is_open_on_purpose_or_closed(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica], settings: dict[str, Any]
) -> None:
    replica = start_replica(host="0.0.0.0", **settings)
    answer = await post_webhook(client, replica, full_report("open-1"))
    assert answer.status_code == (200 if "allow_unauthenticated" in settings else 401)


async def test_starting_needs_no_redis_and_heals_when_it_comes(
    client: httpx2.AsyncClient, start_replica: Callable[..., Replica]
) -> None:
    redis = RedisProcess(port=free_port())
    replica = start_replica(redis_url=redis.url, from_nothing=True)

    async def is_ready() -> bool:
        return (await client.get(replica.url + "/health/ready")).status_code == 200

    assert (await client.get(replica.url + "/health/live")).status_code == 200
    assert not await is_ready()
    assert (await post_webhook(client, replica, full_report("early-1"))).status_code == 503
    redis.start()
    try:
        await eventually(is_ready)
        await post_until_taken(client, replica, full_report("early-1"))
    finally:
        redis.stop()
