"""The Kestra flows that we ship, read without Kestra: what both versions understand, and nothing without a limit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from ruamel.yaml import YAML

from service.kestra.flows import REVISION_LABEL, SHIPPED
from tests.support.replica import ROOT, Replica
from tests.support.vapi_sender import full_report

FOLDER = ROOT / "deploy" / "kestra"
SERVICE_URL = {"service_url": "http://vapi-cache:8000"}

INPUTS: dict[str, dict[str, Any]] = {
    "call_provider": {"request": None, **SERVICE_URL},
    "call_providers": {"requests": None, "max_concurrent": 5, **SERVICE_URL},
    "wait_loop": {"call_id": None, "wait_minutes": 35, **SERVICE_URL},
    "wait_pause_resume": {"call_id": None, "wait_minutes": 35, **SERVICE_URL},
    "wait_long_poll": {"call_id": None, **SERVICE_URL},
    "wait_events": {"call_id": None, "wait_minutes": 35, **SERVICE_URL},
    "on_call_finished": {},
}
"""Of every flow, with their defaults."""

OUTPUTS = {
    "call_provider": ["call_id", "call_result", "disqualified", "outcome", "retry"],
    "call_providers": ["call_results"],
    "wait_loop": ["call_result"],
    "wait_pause_resume": ["call_result"],
    "wait_long_poll": ["call_result"],
    "wait_events": ["call_result"],
    "on_call_finished": ["call_id", "call_result", "disqualified", "outcome", "retry"],
}

ASKING = sorted(INPUTS.keys() - {"on_call_finished"})
"""The flows that ask the service; the other one is told."""

IN_BOTH_VERSIONS = {
    "io.kestra.plugin.core.execution.Fail",
    "io.kestra.plugin.core.execution.SetVariables",
    "io.kestra.plugin.core.flow.If",
    "io.kestra.plugin.core.flow.LoopUntil",
    "io.kestra.plugin.core.flow.Pause",
    "io.kestra.plugin.core.http.Request",
    "io.kestra.plugin.core.http.SseRequest",
    "io.kestra.plugin.core.log.Log",
    "io.kestra.plugin.core.trigger.Webhook",
}
"""Of the core plugins, those that we use: the jars of 1.3.31 and 2.0.0 have them all."""

FAIL = "io.kestra.plugin.core.execution.Fail"
OURS = '{"success":true'
NO_RECORD = '{"success":false,"error":"Call result not found"'

REQUEST = "io.kestra.plugin.core.http.Request"
STREAM = "io.kestra.plugin.core.http.SseRequest"
LOOP = "io.kestra.plugin.core.flow.LoopUntil"

ADDRESS = "{{ inputs.service_url | replace({'/+$': ''}, regexp=true) }}"
"""Without slashes at its end."""

NOT_IN_BOTH = re.compile(r"\brunIf\b|\bwhen:|\bpluginDefaults\b|\bconditions:|\bjson\(|\| *json\b|readTimeout")
"""Removed or renamed by 2.0, or new in it."""


def flow(name: str) -> Any:
    return YAML(typ="safe").load((FOLDER / f"{name}.yaml").read_text())


def tasks_of(node: Any) -> Iterator[dict[str, Any]]:
    """Every task at any depth."""
    if isinstance(node, dict):
        if "type" in node and "id" in node and str(node["type"]).startswith("io."):
            yield node
        for each in node.values():
            yield from tasks_of(each)
    elif isinstance(node, list):
        for each in node:
            yield from tasks_of(each)


def requests_of(name: str) -> list[dict[str, Any]]:
    return [task for task in tasks_of(flow(name)) if task["type"] in (REQUEST, STREAM)]


def seconds(duration: str) -> int:
    found = re.fullmatch(r"PT(?:(\d+)M)?(?:(\d+)S)?", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)


every_flow = pytest.mark.parametrize("name", sorted(INPUTS))


def test_these_are_all_the_flows() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(INPUTS)


@every_flow
def test_a_flow_is_named_after_its_file_and_takes_and_gives_what_it_promises(name: str) -> None:
    source = flow(name)
    assert (source["id"], source["namespace"]) == (name, "ai_concierge")
    assert {each["id"]: each.get("defaults") for each in source.get("inputs", [])} == INPUTS[name]
    assert [each["id"] for each in source["outputs"]] == OUTPUTS[name]


@every_flow
def test_a_flow_carries_its_revision_which_the_doctor_knows(name: str) -> None:
    label = re.compile(rf'^labels:\n  {REVISION_LABEL}: "([0-9a-f]{{12}})"\n\n', re.MULTILINE)
    source = (FOLDER / f"{name}.yaml").read_text()
    revision = hashlib.sha256(label.sub("", source, count=1).encode()).hexdigest()[:12]
    advice = f"write {revision} into deploy/kestra/{name}.yaml and service/kestra/flows.py"
    assert label.findall(source) == [revision], advice
    assert SHIPPED[name] == revision, advice


def test_the_doctor_knows_all_flows_and_no_others() -> None:
    assert set(SHIPPED) == set(INPUTS)


@every_flow
def test_both_versions_understand_it(name: str) -> None:
    assert {task["type"] for task in tasks_of(flow(name))} <= IN_BOTH_VERSIONS
    text = re.sub(r"^ *#.*\n", "", (FOLDER / f"{name}.yaml").read_text(), flags=re.MULTILINE)
    assert NOT_IN_BOTH.findall(text) == []


@every_flow
def test_every_request_has_an_end_and_is_tried_again(name: str) -> None:
    for task in requests_of(name):
        limits = task["options"]["timeout"]
        assert seconds(limits["connectTimeout"]) < seconds(limits["readIdleTimeout"]) < seconds(task["timeout"])
        retry = task["retry"]
        assert (retry["type"], seconds(retry["interval"]) > 0, retry["maxAttempts"] > 1) == ("constant", True, True)
        assert "{{" not in json.dumps(retry), "a retry takes no expressions"


@every_flow
def test_a_request_outlasts_the_poll_that_it_makes(name: str) -> None:
    for task in requests_of(name):
        wait = re.search(r"[?&]wait=(\d+)", task["uri"])
        if wait is not None:
            # A stream is never idle for longer than the 15 s between two comments, but may last as long as that.
            limit = task["timeout"] if task["type"] == STREAM else task["options"]["timeout"]["readIdleTimeout"]
            assert seconds(limit) >= int(wait[1]) + 5


@every_flow
def test_every_request_is_authenticated_and_none_asks_for_the_transcript(name: str) -> None:
    for task in requests_of(name):
        assert task["headers"]["Authorization"] == "Bearer {{ secret('VAPI_CACHE_TOKEN') }}"
        assert task["uri"].startswith(ADDRESS + "/api/v1/vapi/calls")
        assert task.get("method") == "POST" or "view=summary" in task["uri"]


@every_flow
def test_every_loop_sets_all_of_its_limits(name: str) -> None:
    """What is left out has another default in another version."""
    for task in tasks_of(flow(name)):
        if task["type"] == LOOP:
            assert set(task["checkFrequency"]) == {"interval", "maxDuration", "maxIterations"}
            assert "failOnMaxReached" in task


@every_flow
def test_what_is_no_answer_of_the_service_is_told_from_a_call_without_a_record(name: str) -> None:
    """Every answer that a request takes for good is looked at by the Fail right after it, or after its loop."""
    texts = [json.dumps(task) for task in tasks_of(flow(name)) if task["type"] == FAIL]
    for task in requests_of(name):
        if 404 in task["options"].get("allowedResponseCodes", []):
            of_service = f"outputs.{task['id']}." + ("events is empty" if task["type"] == STREAM else "body contains")
            looking = [text for text in texts if of_service in text]
            assert len(looking) == 1, task["id"]
            assert "the address is probably wrong. Check the input service_url" in looking[0]


@every_flow
def test_an_output_is_made_only_of_an_answer_of_the_service(name: str) -> None:
    """Others may be no JSON, and an output that cannot be made hides why the flow failed."""
    for output in flow(name)["outputs"]:
        looks = {"wait_events": "is empty", "on_call_finished": "trigger.body.data"}.get(name, OURS)
        assert name == "call_providers" or looks in output["value"], output["id"]


def test_the_flows_know_the_answers_of_the_service_by_their_beginnings(start_replica: Callable[..., Replica]) -> None:
    url = start_replica().url + "/api/v1/vapi"
    calls = f"{url}/calls/deleted"
    httpx2.post(f"{url}/webhook", json=full_report("deleted"))
    final = httpx2.get(f"{calls}?wait=0&view=summary").text
    httpx2.delete(calls)
    deleted = httpx2.get(f"{calls}?wait=0&view=summary").text
    elsewhere = httpx2.get(f"{url}/nothing/here").text
    assert [text.startswith(OURS) for text in (final, deleted, elsewhere)] == [True, False, False]
    assert [text.startswith(NO_RECORD) for text in (final, deleted, elsewhere)] == [False, True, False]
    for name in set(ASKING) - {"wait_events"}:
        source = (FOLDER / f"{name}.yaml").read_text()
        assert f"contains '{OURS}'" in source
        assert f"'{NO_RECORD}'" in source


@pytest.mark.parametrize("name", ["call_provider", "call_providers"])
def test_whoever_places_calls_says_which_so_that_nobody_is_phoned_twice(name: str) -> None:
    [place] = [task for task in requests_of(name) if task.get("method") == "POST"]
    assert place["headers"]["Idempotency-Key"].startswith("{{ execution.id }}")


def test_the_readme_lists_every_file() -> None:
    readme = (FOLDER / "README.md").read_text()
    missing = [path.name for path in FOLDER.iterdir() if path.name != "README.md" and f"`{path.name}`" not in readme]
    assert missing == []
