"""The doctor looks up where callbacks may go."""

from __future__ import annotations

from service.cli.doctor.callback_hosts import callback_checks
from service.cli.doctor.checking import run_checks
from service.load_config import load_settings
from tests.support.callback_receiver import SECRET


async def test_each_host_is_looked_up_once_and_a_wrong_one_is_named() -> None:
    prefixes = "http://localhost:8080/a/,http://localhost:8080/b/,https://nobody.invalid/"
    settings = load_settings({"CALLBACK_ALLOWED_PREFIXES": prefixes, "CALLBACK_SECRET": SECRET})
    findings = await run_checks(callback_checks(settings), 30)
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert "https://nobody.invalid: The host of the callback is unknown" in findings[1].found


async def test_without_prefixes_there_is_nothing_to_look_up() -> None:
    [finding] = await run_checks(callback_checks(load_settings({})), 30)
    assert finding.level == "ok"
