"""The READMEs hold what they say: settings, log events and the Redis user are the code's, commands run as written."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from service.cli.check_config import shown
from service.config import Settings, variable_of
from tests.support.eventually import PATIENCE_S
from tests.support.replica import ROOT, Replica
from tests.support.service_rights import RULE

README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "deploy" / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
KESTRA = ROOT / "deploy" / "kestra" / "README.md"

THE_LOG = OPERATING.partition("## The log")[2]
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")


def documented_settings() -> dict[str, str]:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (`[^`]+`|unset) \|", README, re.MULTILINE)
    return {name: "" if default == "unset" else default.strip("`") for name, default in rows}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(shell: str, script: str, replica: Replica) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shell, "-c", script.replace("localhost:8000", f"127.0.0.1:{replica.port}")],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def first_webhook() -> str:
    return next(block for block in blocks("bash") if "-d '" in block)


def test_the_table_of_settings_is_the_struct() -> None:
    fields = {variable_of(field.name): shown(field.default) for field in msgspec.structs.fields(Settings)}
    assert {name: normal(value) for name, value in documented_settings().items()} == {
        name: normal(value) for name, value in fields.items()
    }


def normal(value: str) -> str:
    """1.0 and 1 are one default."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def test_the_first_webhook_and_poll_print_what_is_promised(start_replica: Callable[..., Replica]) -> None:
    printed = run("bash", first_webhook(), start_replica()).stdout
    assert printed == (
        '{"success":true,"message":"Webhook processed: end-of-call-report","callId":"test-call-123"}"ended"\n'
    )


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_shell_loop_ends_with_the_record(shell: str, start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    run("bash", first_webhook().replace("Test transcript", "two\\nlines"), replica)
    done = run(shell, blocks("sh")[0], replica)
    assert (done.returncode, '"status":"ended"' in done.stdout) == (0, True)


def test_the_long_poll_answers_at_once_for_a_final_record(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    run("bash", first_webhook(), replica)
    long_poll = next(block for block in blocks("bash") if "wait=25" in block)
    assert '"data_status":"complete"' in run("bash", long_poll, replica).stdout


def test_scripts_of_the_original_pollers_find_what_the_table_says(start_replica: Callable[..., Replica]) -> None:
    replica = start_replica()
    call = f"{replica.url}/api/v1/vapi/calls/test-call-123"

    def ask(*arguments: str) -> tuple[str, dict[str, Any]]:
        printed = run("bash", shlex.join(["curl", "-s", "-w", "\n%{http_code}", *arguments]), replica).stdout
        body, status = printed.rsplit("\n", 1)
        return status, json.loads(body)

    assert ask(call)[0] == "404"
    assert ask(f"{call}?wait=0")[0] == "202"
    run("bash", first_webhook(), replica)
    record = ask(f"{call}?wait=25")[1]["data"]
    assert (record["status"], record["data_status"], record["outcome"]) == ("ended", "complete", "completed")
    assert record["transcript"] == {"text": "Test transcript"}
    assert {"call_id", "ended_reason", "analysis_summary"} <= record.keys()
    assert not {"callId", "endedReason", "analysis", "raw_webhook_payload"} & record.keys()
    assert ask("-X", "DELETE", call)[1]["callId"] == "test-call-123"
    assert ask(f"{call}?wait=25")[0] == "404"


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in (README, OPERATING, SECURITY):
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`((?:service|tests)/[a-z_/.]+)`", README + OPERATING + SECURITY))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in (ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "deploy" / "README.md", KESTRA):
        folder = page.parent
        for target, _, section in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", page.read_text()):
            file = folder / target / "README.md" if (folder / target).is_dir() else folder / target
            if not file.is_file() or (section and section not in sections_of(file.read_text())):
                broken.append((page.name, target, section))
    assert broken == []


def sections_of(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def logged_events() -> dict[str, set[str]]:
    """The fields of each event that the service logs."""
    events: dict[str, set[str]] = {}
    for file in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("log") | ast.Attribute(attr="_log"), attr=level),
                    args=[ast.Constant(str(event))],
                ) if EVENT.fullmatch(event):
                    fields = events.setdefault(event, set())
                    named = {keyword.arg for keyword in node.keywords if keyword.arg}
                    fields |= {"exception" if name == "exc_info" else name for name in named}
                    fields |= {"exception"} if level == "exception" else set()
    return events


def test_every_event_of_the_log_is_in_the_table_of_the_log() -> None:
    events = logged_events().keys()
    assert "request.finished" in events
    assert events - set(re.findall(r"`([a-z_]+\.[a-z_]+)`", THE_LOG)) == set()


def test_every_field_of_an_event_is_in_its_row() -> None:
    documented: dict[str, str] = {}
    for row in re.findall(r"^\| `.*$", THE_LOG, re.MULTILINE):
        names, _, rest = row.partition(" | ")
        documented |= dict.fromkeys(EVENT.findall(names), rest)
    lacking = {
        (event, field)
        for event, fields in logged_events().items()
        for field in fields
        if event in documented and f"`{field}`" not in documented[event]
    }
    assert len(documented) > 50
    assert lacking == set()


def test_the_redis_user_is_the_one_that_is_tested() -> None:
    shown = re.search(r"ACL SETUSER service on >PASSWORD (.*?)```", OPERATING, re.DOTALL)
    assert shown is not None
    assert shown[1].split() == RULE.split()
