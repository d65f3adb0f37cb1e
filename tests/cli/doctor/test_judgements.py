"""What rare answers mean: those that a Redis, a proxy or the service gives only in trouble that tests cannot make."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.cli.doctor.probe_answers import judge_health, judge_poll, judge_webhook
from service.cli.doctor.redis_settings import judge
from service.config import Settings
from service.load_config import load_settings
from service.outbound import HttpAnswer
from service.store.server_info import ServerInfo

WELL = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory": "1000",
    "used_memory": "1",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "connected_slaves": "0",
}
SENTINEL = load_settings({"REDIS_URL": "redis+sentinel://a:1/mymaster"})
ADDRESS = "https://calls.example.com"


def answer(code: int, **body: Any) -> HttpAnswer:
    return HttpAnswer(code, {}, json.dumps(body).encode())


def troubles(info: dict[str, str | None], settings: Settings, **config: str) -> list[str]:
    shown = {name: value for name, value in {**WELL, **info}.items() if value is not None}
    found = judge(ServerInfo(shown, config), settings)
    return [f"{each.check}: {each.level}" for each in found if each.level != "ok"]


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({}, []),
        ({"redis_version": None}, ["version: warning"]),
        ({"maxmemory_policy": None}, ["eviction: warning"]),
        ({"aof_last_write_status": "err"}, ["persistence: error"]),
        ({"aof_last_bgrewrite_status": "err"}, ["persistence: error"]),
        ({"min_slaves_good_slaves": "0"}, ["replicas: error"]),
        ({"used_memory": "900"}, ["memory: warning"]),
    ],
)
def test_what_redis_says_about_itself(info: dict[str, str | None], found: list[str]) -> None:
    assert troubles(info, Settings()) == found


def test_a_master_without_anybody_to_fail_over_to_is_pointed_out() -> None:
    assert troubles({}, SENTINEL) == ["replicas: warning"]


def test_without_aof_replicas_that_confirm_are_better_than_nothing() -> None:
    settings = load_settings({"REDIS_URL": "redis://a", "STORE_WAIT_REPLICAS": "1"})
    assert troubles({"aof_enabled": "0", "connected_slaves": "2"}, settings) == ["persistence: warning"]


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (429, {"success": False, "error": "Too many requests"}, "refuses more requests"),
        (400, {"success": False, "error": "Not JSON"}, "400: Not JSON"),
        (503, {"success": False, "error": "Redis is away"}, "Redis is away"),
        (401, {"success": False, "error": "Invalid webhook signature"}, "another secret"),
    ],
)
def test_how_the_webhook_was_answered(status: int, body: dict[str, Any], word: str) -> None:
    found = judge_webhook(answer(status, **body), Settings(), ADDRESS)
    assert (found.level, word in found.found) == ("error", True), found


@pytest.mark.parametrize(
    ("status", "body", "level", "word"),
    [
        (404, {"success": False, "error": "Call result not found"}, "error", "do not share one Redis"),
        (503, {"success": False, "error": "Redis is away"}, "error", "503: Redis is away"),
        (403, {"success": False, "error": "no"}, "error", "wants a token"),
        (404, {}, "warning", "takes webhooks only"),
    ],
)
def test_how_the_poll_was_answered(status: int, body: dict[str, Any], level: str, word: str) -> None:
    found = judge_poll(answer(status, **body), ADDRESS, Settings())
    assert (found.level, word in found.found) == (level, True), found


@pytest.mark.parametrize(
    ("status", "body", "level", "word"),
    [
        (200, {"success": True, "status": "ok", "version": "0.0.1"}, "warning", "is version 0.0.1"),
        (200, {"success": True, "status": "ok", "dependencies": ["odd"]}, "ok", "is ok"),
        (200, {"success": True, "status": "degraded", "dependencies": {"kestra": {"status": "down", "problem": "away"}}},
         "warning", "kestra: away"),
        (503, {"success": True, "status": "down", "dependencies": {"redis": {"status": "down"}}}, "error", "redis: down"),
        (404, {}, "ok", "need not be public"),
    ],
)  # fmt: skip
def test_how_the_service_says_it_is(status: int, body: dict[str, Any], level: str, word: str) -> None:
    found = judge_health(answer(status, **body), ADDRESS)
    assert (found.level, word in found.found) == (level, True), found
