"""The command itself: its exit status, what it prints, that checks do not disturb one another, and that no secret shows."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from service.cli.doctor.addresses import shown
from service.cli.doctor.checking import Check, in_thread, run_checks
from service.cli.doctor.findings import Finding, error, ok, warning
from service.cli.doctor.redis_servers import merged
from service.cli.doctor.report import as_json, as_text, clean
from service.config import Settings
from service.errors import UpstreamError
from service.load_config import load_settings
from tests.support.commands import run
from tests.support.diagnosis import NOBODY_THERE, diagnose, diagnosis_of
from tests.support.fake_kestra import FakeKestra
from tests.support.fake_vapi import FakeVapi
from tests.support.ports import free_port
from tests.support.replica import Replica

HIDDEN: dict[str, Any] = {
    "vapi_webhook_secret": "canary-secret-1,canary-secret-2", "api_read_tokens": "canary-read", "api_admin_tokens": "canary-admin",
    "vapi_api_key": "canary-key", "kestra_username": "somebody", "kestra_password": "canary-password",
    "database_url": "postgresql://user:canary-database@db/x",
}  # fmt: skip


def test_it_runs_from_the_command_line_and_its_exit_status_is_that_of_the_worst() -> None:
    result = run("doctor", "--json", "--url", NOBODY_THERE, from_nothing=True)
    diagnosis = diagnosis_of(result.returncode, result.stdout, result.stderr)
    assert (diagnosis.status, diagnosis.level("service", "webhook")) == (2, "error")


def test_people_get_aligned_lines_with_what_to_do_below_them() -> None:
    result = run("doctor", "--url", NOBODY_THERE)
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (2, "")
    assert lines[0].startswith("warning  settings   credentials  no secret and no token")
    assert lines[1].lstrip().startswith("-> set VAPI_WEBHOOK_SECRET")
    texts = [line for line in lines[:-2] if not line.startswith(" ")]
    assert {line[:29].rstrip().split()[0] for line in texts} == {"ok", "warning", "error"}
    assert len({len(line) - len(line.lstrip()) for line in lines if line.startswith(" ")}) == 1
    assert lines[-1] == "6 ok, 2 warning, 1 error"


def test_a_wrong_setting_and_a_wrong_command_line_end_with_2() -> None:
    assert run("doctor", port="none").returncode == 2
    assert run("doctor", "--timeout", "0").returncode == 2
    for url in ("nonsense", "http://127.0.0.1:notaport", "http://127.0.0.1:99999", "http://[::1", "ftp://a", ""):
        result = run("doctor", "--url", url)
        assert (result.returncode, "Traceback" in result.stderr, "--url" in result.stderr) == (2, False, True), url


def test_the_help_says_what_the_exit_status_means_and_lists_the_command() -> None:
    assert "exit status: 0 all is well, 1 the worst is a warning, 2 an error" in " ".join(
        run("doctor", "--help").stdout.split()
    )
    assert "doctor" in run("--help").stdout


async def test_no_secret_is_printed_whatever_is_wrong() -> None:
    """Each of them is refused, or its place is not there."""
    async with FakeVapi() as vapi, FakeKestra(username="ops", password="another") as kestra:
        replica = Replica(**{**HIDDEN, "vapi_webhook_secret": "another", "database_url": ""}).start()
        settings = {
            **HIDDEN, "vapi_api_url": vapi.url, "vapi_phone_number_id": "a", "kestra_url": kestra.url.replace("//", "//u:canary-url@"),
            "redis_url": f"redis://user:canary-redis@127.0.0.1:{free_port()}/0", "store_timeout_s": 0.3,
            "vapi_webhook_url": replica.url.replace("//", "//u:canary-hook@") + "/api/v1/vapi/webhook?token=canary-query",
        }  # fmt: skip
        try:
            for json_too in (["--json"], []):
                result = await asyncio.to_thread(run, "doctor", *json_too, **settings)
                assert (result.returncode, "canary" in result.stdout + result.stderr) == (2, False), result.stdout
        finally:
            replica.stop()


def settings_with(**given: str) -> Settings:
    return load_settings({name.upper(): value for name, value in given.items()})


def test_secrets_and_control_characters_in_texts_of_others_do_not_get_through() -> None:
    settings = settings_with(vapi_webhook_secret="s3cret-one", redis_url="redis://user:p%40ss-word@host:6379")
    found = error("a", "it said s3cret-one\x1b[31m and p@ss-word\nand p%40ss-word", "ask s3cret-one")
    (cleaned,) = clean({"part": [found]}, settings)["part"]
    assert cleaned == error("a", "it said *** [31m and *** and ***", "ask ***")


def test_the_report_for_programs_counts_and_names_the_worst() -> None:
    told = json.loads(as_json({"redis": [ok("a", "b"), warning("c", "d", "e")], "spool": []}))
    assert (told["worst"], told["counts"]) == ("warning", {"ok": 1, "warning": 1, "error": 0})
    assert told["findings"][1] == {"part": "redis", "level": "warning", "check": "c", "found": "d", "advice": "e"}


def test_an_empty_report_is_well() -> None:
    assert as_text({"redis": []}) == "\n0 ok, 0 warning, 0 error"


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://user:pass@host:1/path?token=x#y") == "https://host:1/path?***"
    assert shown("http://[broken") == "an address that cannot be read"


def check(name: str, *, finds: Exception | float) -> Check:
    """One that raises, or that takes so many seconds."""

    async def find() -> list[Finding]:
        if isinstance(finds, Exception):
            raise finds
        await asyncio.sleep(finds)
        return [ok(name, "well")]

    return Check(name, find)


async def test_a_check_that_fails_or_hangs_hides_no_other() -> None:
    checks = [
        check("crashes", finds=RuntimeError("a-secret")),
        check("hangs", finds=3600),
        check("refused", finds=UpstreamError("Somebody is away")),
        check("works", finds=0),
    ]
    found = await run_checks(checks, 0.3)
    assert [(each.check, each.level) for each in found] == [
        ("crashes", "error"), ("hangs", "error"), ("refused", "error"), ("works", "ok"),
    ]  # fmt: skip
    assert "a-secret" not in "".join(each.found for each in found)


async def test_a_disk_that_never_answers_does_not_keep_the_command() -> None:
    async def find() -> list[Finding]:
        await in_thread(time.sleep, 1.5)
        return []

    (found,) = await run_checks([Check("spool", find)], 0.1)
    assert (found.level, "no result within" in found.found) == ("error", True)


async def test_what_fails_in_a_thread_is_raised_where_it_is_awaited() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


def test_masters_that_agree_are_one_line_and_those_that_do_not_are_named() -> None:
    alike = [ok("version", "7.0.15")]
    found = merged({"a": [*alike, ok("memory", "1 %")], "b": [*alike, ok("memory", "2 %")]})
    assert found == [ok("version", "7.0.15"), ok("memory", "a: 1 %; b: 2 %")]
    one_bad = merged({"a": [ok("eviction", "fine")], "b": [error("eviction", "bad", "mend")]})
    assert one_bad == [error("eviction", "b: bad", "mend")]


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, "warning"),
        ({"vapi_webhook_secret": "s"}, "error"),
        ({"api_admin_tokens": "s"}, "error"),
        ({"vapi_webhook_secret": "s", "api_read_tokens": "s"}, "ok"),
        ({"vapi_webhook_secret": "s", "api_admin_tokens": "s"}, "ok"),
    ],
)
def test_doors_without_a_lock_and_locks_without_a_key_are_pointed_out(settings: dict[str, str], level: str) -> None:
    assert diagnose("--url", NOBODY_THERE, **settings).level("settings", "credentials") == level
