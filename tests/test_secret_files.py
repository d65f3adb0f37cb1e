"""Secrets may stand in files: every one of them, read as their owner wrote it, and refused by name when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import pytest

from service.cli.check_config import shown
from service.config import Secret, Settings
from service.errors import SettingsError
from service.load_config import load_settings
from tests.support.commands import run
from tests.support.for_each import for_each

SECRETS: Final = [
    name.upper() for name, hint in get_type_hints(Settings).items() if hint is Secret or Secret in get_args(hint)
]
GOOD: Final = {
    "REDIS_URL": "redis://:hunter7@127.0.0.1:6379/0",
    "DATABASE_URL": "postgresql://u:hunter7@h/d",
    "CALLBACK_SECRET": "whsec_" + "hunter7hunter7hu" * 2,
}
WITH: Final = {"KESTRA_PASSWORD": {"KESTRA_USERNAME": "u"}}
"""What must be set together with a variable."""

every_variable = for_each("variable", [*SECRETS, "REDIS_URL"])


def value_of(variable: str) -> str:
    return GOOD.get(variable, "hunter7")


def loaded(variable: str, environ: dict[str, str]) -> Any:
    return getattr(load_settings({**WITH.get(variable, {}), **environ}), variable.lower())


def refusal(variable: str, environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(variable, environ)
    said = str(refused.value)
    assert "hunter7" not in said
    assert "\n" not in said
    return said


def written(folder: Path, content: str | bytes) -> str:
    file = folder / "secret"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def test_the_contracts_secrets_are_among_them() -> None:
    named = {"VAPI_WEBHOOK_SECRET", "API_READ_TOKENS", "API_ADMIN_TOKENS", "VAPI_API_KEY", "KESTRA_PASSWORD"}
    assert named | {"KESTRA_TOKEN", "DATABASE_URL"} <= set(SECRETS)


@every_variable
@for_each("ending", ["", "\n", "\r\n"])
def test_a_file_gives_the_same_as_the_variable(variable: str, ending: str, tmp_path: Path) -> None:
    path = written(tmp_path, value_of(variable) + ending)
    assert loaded(variable, {f"{variable}_FILE": path}) == loaded(variable, {variable: value_of(variable)})


def test_only_one_newline_is_dropped_and_what_is_before_it_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path, " pass word \n\n")
    assert loaded("KESTRA_PASSWORD", {"KESTRA_PASSWORD_FILE": path}) == Secret(" pass word \n")


def test_a_file_may_hold_several(tmp_path: Path) -> None:
    path = written(tmp_path, "new, old\n")
    assert loaded("API_READ_TOKENS", {"API_READ_TOKENS_FILE": path}) == (Secret("new"), Secret("old"))


def test_several_on_lines_of_their_own_are_refused_because_none_of_them_would_work(tmp_path: Path) -> None:
    path = written(tmp_path, "hunter7\nhunter77\n")
    assert "commas" in refusal("API_READ_TOKENS", {"API_READ_TOKENS_FILE": path})


@every_variable
def test_both_set_is_refused(variable: str, tmp_path: Path) -> None:
    environ = {variable: value_of(variable), f"{variable}_FILE": written(tmp_path, value_of(variable))}
    assert refusal(variable, environ).startswith(f"{variable}_FILE: ")


@every_variable
def test_an_empty_variable_beside_its_file_counts_as_unset(variable: str, tmp_path: Path) -> None:
    path = written(tmp_path, value_of(variable))
    assert loaded(variable, {variable: " ", f"{variable}_FILE": path}) == loaded(
        variable, {variable: value_of(variable)}
    )
    assert load_settings({f"{variable}_FILE": " "}) == load_settings({})


@every_variable
@for_each("content", ["", "\n", " \n"])
def test_an_empty_file_opens_nothing(variable: str, content: str, tmp_path: Path) -> None:
    said = refusal(variable, {f"{variable}_FILE": written(tmp_path, content)})
    assert said == f"{variable}_FILE: the file is empty"


@pytest.mark.parametrize("content", [b"hunter7\xff", b"hunter7" * 10_000])
def test_what_is_no_text_or_too_large_is_refused(content: bytes, tmp_path: Path) -> None:
    said = refusal("VAPI_API_KEY", {"VAPI_API_KEY_FILE": written(tmp_path, content)})
    assert said.startswith("VAPI_API_KEY_FILE: ")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("a" * 5000)):
        assert refusal("VAPI_API_KEY", {"VAPI_API_KEY_FILE": str(path)}).startswith("VAPI_API_KEY_FILE: ")
    assert refusal("VAPI_API_KEY", {"VAPI_API_KEY_FILE": "a\0b"}).startswith("VAPI_API_KEY_FILE: ")


def test_what_is_no_secret_has_no_file(tmp_path: Path) -> None:
    assert load_settings({"PORT_FILE": written(tmp_path, "9000"), "VAPI_API_URL_FILE": "x"}) == load_settings({})


def test_a_secret_from_a_file_closes_the_service(tmp_path: Path) -> None:
    assert not load_settings({"HOST": "0.0.0.0", "API_READ_TOKENS_FILE": written(tmp_path, "hunter7")}).is_open


@pytest.mark.parametrize("command", [[], ["check-config"]], ids=["serve", "check-config"])
def test_the_start_is_stopped_with_one_line_and_status_2(command: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, "hunter7")
    result = run(*command, port=0, vapi_webhook_secret="hunter7", vapi_webhook_secret_file=path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "VAPI_WEBHOOK_SECRET_FILE: must not be set together with VAPI_WEBHOOK_SECRET\n"


def test_check_config_hides_what_it_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD["REDIS_URL"])
    result = run("check-config", redis_url_file=path, api_read_tokens_file=written(tmp_path, GOOD["REDIS_URL"]))
    assert result.returncode == 0
    assert "hunter7" not in result.stdout + result.stderr
    assert f"REDIS_URL={shown('redis://***@127.0.0.1:6379/0')}" in result.stdout
