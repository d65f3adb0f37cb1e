"""What the doctor says about a Kestra that is away, refuses us, or has other flows than ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from service.kestra.flows import SHIPPED
from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose
from tests.support.fake_kestra import FakeKestra
from tests.support.replica import ROOT

NAMESPACE = "ai_concierge"
PASSWORD = "the-password-of-kestra"


@pytest.fixture(params=["v1", "v2"])
def kestra(request: pytest.FixtureRequest) -> Iterator[FakeKestra]:
    """One with the flows of deploy/kestra."""
    fake = FakeKestra(request.param, username="ops", password=PASSWORD).start()
    for name in SHIPPED:
        labels = YAML(typ="safe").load((ROOT / "deploy" / "kestra" / f"{name}.yaml").read_text())["labels"]
        fake.put_flow(NAMESPACE, name, labels=labels)
    yield fake
    fake.stop()


def diagnose_kestra(kestra: FakeKestra, **settings: Any) -> Diagnosis:
    ours = {"kestra_url": kestra.url, "kestra_username": "ops", "kestra_password": PASSWORD}
    return diagnose("--url", NOBODY_THERE, **{**ours, **settings})


def remove(kestra: FakeKestra, *names: str) -> None:
    for name in names:
        del kestra.flows[f"{NAMESPACE}/{name}"]


def test_a_kestra_with_our_flows_is_well_and_nothing_is_started(kestra: FakeKestra) -> None:
    diagnosis = diagnose_kestra(kestra)
    assert diagnosis.troubles("kestra") == []
    assert [each.check for each in diagnosis.of("kestra")] == ["version", "placing", "flows"]
    assert {request.method for request in kestra.requests} == {"GET"}


def test_credentials_that_are_refused_are_one_error_and_are_not_shown(kestra: FakeKestra) -> None:
    diagnosis = diagnose_kestra(kestra, kestra_password="another-password")
    assert diagnosis.troubles("kestra") == ["version: error"]
    assert "another-password" not in diagnosis.printed


def test_a_kestra_that_is_away_is_one_error() -> None:
    diagnosis = diagnose("--url", NOBODY_THERE, kestra_url="http://somebody:do-not-show@127.0.0.1:9")
    assert diagnosis.troubles("kestra") == ["version: error"]
    assert "do-not-show" not in diagnosis.printed


def test_a_kestra_that_never_answers_ends_by_the_deadline(kestra: FakeKestra) -> None:
    kestra.hang_next(times=10)
    diagnosis = diagnose("--url", NOBODY_THERE, "--timeout", "0.5", kestra_url=kestra.url)
    assert diagnosis.troubles("kestra") == ["version: error"]


def test_a_style_that_this_kestra_does_not_speak_is_an_error(kestra: FakeKestra) -> None:
    other = "v2" if kestra.style == "v1" else "v1"
    assert diagnose_kestra(kestra, kestra_api_style=other).troubles("kestra") == ["version: error"]


def test_an_old_kestra_is_pointed_out(kestra: FakeKestra) -> None:
    kestra.version = "1.1.6"
    assert diagnose_kestra(kestra).troubles("kestra") == ["version: warning"]


@pytest.mark.parametrize(("enabled", "level"), [(1, "error"), (0, "warning")])
def test_the_flow_that_places_calls_is_missed(kestra: FakeKestra, enabled: int, level: str) -> None:
    remove(kestra, "call_provider")
    diagnosis = diagnose_kestra(kestra, kestra_enabled=enabled)
    assert diagnosis.troubles("kestra") == [f"placing: {level}"]
    assert "deploy/kestra/call_provider.yaml" in str(diagnosis.one("kestra", "placing").advice)


def test_a_flow_of_another_version_is_named(kestra: FakeKestra) -> None:
    kestra.put_flow(NAMESPACE, "wait_loop", labels={"vapi_cache_revision": "0123456789ab"})
    kestra.put_flow(NAMESPACE, "call_provider")  # older than the label
    diagnosis = diagnose_kestra(kestra)
    assert diagnosis.troubles("kestra") == ["placing: warning", "flows: warning"]
    assert "wait_loop is not the one of this version" in diagnosis.one("kestra", "flows").found


def test_a_flow_that_is_disabled_is_named(kestra: FakeKestra) -> None:
    kestra.flows[f"{NAMESPACE}/call_provider"]["disabled"] = True
    assert diagnose_kestra(kestra, kestra_enabled=1).troubles("kestra") == ["placing: error"]


def test_ways_to_wait_that_nobody_installed_are_no_fault(kestra: FakeKestra) -> None:
    remove(kestra, "wait_loop", "wait_long_poll")
    found = diagnose_kestra(kestra).one("kestra", "flows")
    assert (found.level, "nothing here needs them: wait_long_poll, wait_loop" in found.found) == ("ok", True)


def test_a_flow_of_ones_own_only_has_to_be_there(kestra: FakeKestra) -> None:
    kestra.put_flow("theirs", "place")
    there = diagnose_kestra(kestra, kestra_namespace="theirs", kestra_flow="place")
    absent = diagnose_kestra(kestra, kestra_namespace="theirs", kestra_flow="other", kestra_enabled=1)
    assert there.troubles("kestra") == []
    assert absent.troubles("kestra") == ["placing: error"]


def test_flows_that_we_may_not_see_are_no_error(kestra: FakeKestra) -> None:
    kestra.answer_next(403, path_part="/flows/", times=10)
    assert diagnose_kestra(kestra).troubles("kestra") == ["flows: warning"]


@pytest.mark.parametrize("body", [b"<html>", {"id": 5}, {"id": "a", "labels": "odd"}, b"[" * 5000])
def test_odd_answers_are_findings_and_no_crash(kestra: FakeKestra, body: object) -> None:
    kestra.answer_next(200, body, path_part="/flows/", times=10)
    assert diagnose_kestra(kestra).troubles("kestra") == ["flows: warning"]
