"""The alert rules as they are shipped: valid for promtool, each fires by its numbers and not below them, each has its runbook."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.support.for_each import for_each
from tests.support.prometheus_server import RULES, quickened
from tests.support.replica import ROOT

RUNBOOK: Final = ROOT / "deploy" / "RUNBOOK.md"
SECTIONS: Final = ("**Symptom.**", "**How to see it.**", "**What to do.**", "**Over when**")

A: Final = '{job="vapi-cache",instance="a"}'
OF_A: Final = {"instance": "a"}
QUIET: Final = "0x240"
"""Four hours of minutes."""


@dataclass(frozen=True)
class Row:
    """Series in promtool's notation, one value a minute, after which the alert fires, and others after which it does not."""

    alert: str
    fires: dict[str, str]
    is_quiet: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    after: str = "15m"


def counter(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in {"instance": "a", **labels}.items()) + "}"


def grows(each_minute: float) -> str:
    return f"0+{each_minute}x240"


def latencies(name: str, slow: str) -> dict[str, str]:
    """100 a minute, of which so many are above a second, the others below 0.05 s."""
    bounds = {"0.05": grows(100 - float(slow)), "1.0": grows(100 - float(slow)), "2.0": grows(100), "+Inf": grows(100)}
    return {counter(f"{name}_bucket", le=bound): values for bound, values in bounds.items()}


ACKNOWLEDGED: Final = counter("vapi_webhook_deliveries_total", result="acknowledged")
ENDED: Final = counter("vapi_calls_ended_total", outcome="completed")
FAILED: Final = counter("vapi_calls_ended_total", outcome="failed")
MERGED: Final = counter("vapi_reconciled_total", result="merged")
NOT_ASKED: Final = counter("vapi_reconciled_total", result="failed")
RESUMED: Final = counter("vapi_subscriptions_total", result="resumed")
RETRIED: Final = counter("vapi_subscriptions_total", result="retried")
DROPPED: Final = counter("vapi_subscriptions_total", result="dropped")
BACKLOG_AGE: Final = "vapi_archive_backlog_age_seconds" + A
ARCHIVE_UP: Final = "vapi_archive_up" + A
GIVEN_UP: Final = counter("vapi_archive_given_up_total")
REFUSED_ROWS: Final = counter("vapi_archive_set_aside_total")
UNDELIVERED: Final = counter("vapi_callbacks_total", result="retried")
UNWANTED: Final = counter("vapi_callbacks_total", result="dropped")
CALLBACKS_DUE: Final = counter("vapi_callbacks_due")
NO_PROOF: Final = counter("vapi_auth_failures_total", reason="no proof header")
WRONG: Final = counter("vapi_auth_failures_total", reason="no secret fits")
NO_TOKEN: Final = counter("vapi_auth_failures_total", reason="no token")
OK_POLLS: Final = counter("vapi_polls_total", result="200")
BAD_POLLS: Final = counter("vapi_polls_total", result="503")
REFUSED: Final = counter("vapi_webhook_deliveries_total", result="refused")
UNKNOWN: Final = counter("vapi_calls_placed_total", method="vapi", result="unknown")
WAITING: Final = counter("vapi_spool_entries", state="waiting")
SET_ASIDE: Final = counter("vapi_spool_entries", state="set_aside")
BYTES, MOST = counter("vapi_spool_bytes"), counter("vapi_spool_max_bytes")
LOST: Final = counter("http_connections_lost_total", kind="idle")
FDS, MOST_FDS = counter("process_open_fds", job="vapi-cache"), counter("process_max_fds", job="vapi-cache")
MISSING: Final = counter("vapi_reports_missing_total")
SILENCE: Final = counter("vapi_longest_silence_seconds")
BUCKETS: Final = counter("vapi_store_buckets_missing")
HEARS: Final = counter("vapi_notifications_subscribed")
ERRORS, LINES = counter("vapi_store_errors_total"), counter("vapi_log_lines_lost_total")

ROWS: Final = [
    Row("VapiWebhooksRefused", {REFUSED: "0x12 1x240"}, {REFUSED: QUIET, ACKNOWLEDGED: grows(9)}),
    Row("VapiSecretsDrifted", {WRONG: grows(1), ACKNOWLEDGED: QUIET}, {NO_PROOF: grows(1), ACKNOWLEDGED: grows(20)}),
    Row("VapiWebhooksSlow", latencies("vapi_webhook_duration_seconds", "5"), latencies("vapi_webhook_duration_seconds", "0.5")),
    Row("VapiReportsMissing", {MISSING: "0x10 1x240", ENDED: "0x10 1x240"}, {MISSING: "0x10 1x240", ENDED: grows(9)}),
    Row("VapiCallsStuck", {SILENCE: "3600+60x240"}, {SILENCE: "0+60x58"}, after="58m"),
    Row("VapiWebhooksMissing", {MERGED: grows(1), ENDED: grows(2)}, {MERGED: grows(1), ENDED: grows(20)}),
    Row("VapiApiFailing", {NOT_ASKED: grows(1)}, {NOT_ASKED: grows(1), MERGED: grows(2)}),
    Row("VapiCallsFailing", {FAILED: grows(1), ENDED: QUIET}, {FAILED: grows(1), ENDED: grows(2)}),
    Row("VapiCallOutcomeUnknown", {UNKNOWN: "0x12 1x240"}, {UNKNOWN: QUIET}),
    Row("VapiPollsFailing", {BAD_POLLS: grows(2), OK_POLLS: grows(9)}, {BAD_POLLS: grows(2), OK_POLLS: grows(90)}),
    Row("VapiCallersRefused", {NO_TOKEN: grows(3)}, {NO_TOKEN: grows(1)}),
    Row("VapiWakesSlow", latencies("vapi_wake_latency_seconds", "5"), latencies("vapi_wake_latency_seconds", "0.5")),
    Row("VapiNotificationsLost", {HEARS: QUIET}, {HEARS: "1x240"}, OF_A),
    Row("VapiSubscriptionsDropped", {DROPPED: "0x12 1x240"}, {DROPPED: QUIET, RESUMED: grows(1)}),
    Row("VapiSubscriptionsUndelivered", {RETRIED: grows(2), RESUMED: QUIET}, {RETRIED: grows(2), RESUMED: grows(2)}),
    Row("VapiSubscriptionsDropped", {UNWANTED: "0x12 1x240"}, {UNWANTED: QUIET}),
    Row("VapiSubscriptionsUndelivered", {CALLBACKS_DUE: "3x240", UNDELIVERED: grows(1)}, {CALLBACKS_DUE: "3x240", UNDELIVERED: QUIET}),
    Row("VapiRedisAway", {BUCKETS: "11x240"}, {BUCKETS: QUIET}, OF_A),
    Row("VapiRedisRefuses", {ERRORS: grows(2)}, {ERRORS: QUIET}),
    Row("VapiRedisSlow", latencies("vapi_store_roundtrip_seconds", "5"), latencies("vapi_store_roundtrip_seconds", "0.5")),
    Row("VapiSpoolWaiting", {WAITING: "7x240"}, {WAITING: "7x3 0x240"}, OF_A),
    Row("VapiSpoolFilling", {BYTES: "51x240", MOST: "100x240"}, {BYTES: "49x240", MOST: "100x240"}, OF_A),
    Row("VapiSpoolSetAside", {SET_ASIDE: "1x240"}, {SET_ASIDE: QUIET, WAITING: "1x240"}, OF_A),
    Row("VapiArchiveBehind", {BACKLOG_AGE: "61x240"}, {BACKLOG_AGE: "61x1 59x240", ARCHIVE_UP: "1x240"}, OF_A),
    Row("VapiArchiveBehind", {ARCHIVE_UP: QUIET}, {ARCHIVE_UP: "0x1 1x240"}, OF_A),
    Row("VapiArchiveIncomplete", {GIVEN_UP: "0x12 1x240", REFUSED_ROWS: QUIET}, {GIVEN_UP: QUIET, REFUSED_ROWS: "5x240"}),
    Row("VapiArchiveIncomplete", {REFUSED_ROWS: "0x12 1x240", GIVEN_UP: QUIET}, {GIVEN_UP: "7x240", REFUSED_ROWS: QUIET}),
    Row("VapiReplicaDown", {"up" + A: QUIET}, {"up" + A: "1x240"}, {"job": "vapi-cache", **OF_A}),
    Row("VapiAllReplicasDown", {"up" + A: QUIET}, {"up" + A: "1x240"}),
    Row("VapiDescriptorsShort", {LOST: "0x12 1x240"}, {LOST: "5x240"}, OF_A),
    Row("VapiDescriptorsShort", {FDS: "71x240", MOST_FDS: "100x240"}, {FDS: "69x240", MOST_FDS: "100x240"}, OF_A),
    Row("VapiLogLinesLost", {LINES: "0x12 1x240"}, {LINES: QUIET}, OF_A),
]  # fmt: skip


def shipped() -> dict[str, dict[str, Any]]:
    """The rules by the alerts' names."""
    groups = YAML(typ="safe").load(RULES)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def expected(row: Row) -> dict[str, Any]:
    """The alert as promtool has to see it."""
    rule = shipped()[row.alert]
    words = {
        name: text.replace("{{ $labels.instance }}", row.labels.get("instance", ""))
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": {**rule["labels"], **row.labels}, "exp_annotations": words}


def case(row: Row, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    return {
        "interval": "1m",
        "name": f"{row.alert} {'fires' if fires else 'is quiet'}",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": row.after, "alertname": row.alert, "exp_alerts": [expected(row)] if fires else []}
        ],
    }


def test_promtool_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    (tmp_path / "quick.yml").write_text(quickened(RULES.read_text()))
    promtool("check", "rules", str(tmp_path / "quick.yml"))


@for_each("row", ROWS)
def test_each_fires_by_its_numbers_and_is_quiet_below_them(row: Row, tmp_path: Path) -> None:
    cases = [case(row, row.fires, fires=True), case(row, row.is_quiet, fires=False)]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    promtool("test", "rules", str(file))


def test_each_alert_is_tried_by_its_numbers_and_by_its_fault() -> None:
    names = set(shipped())
    assert names == {row.alert for row in ROWS}
    faults = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_alerts.py"))
    assert names <= set(re.findall(r"Vapi[A-Za-z]+", faults))


def test_each_alert_says_how_bad_it_is_and_where_its_runbook_is() -> None:
    sections = {
        found[1].lower(): found[2]
        for found in re.finditer(r"^### (\w+)\n(.*?)(?=^#|\Z)", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    }
    for name, rule in shipped().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"
        assert {"summary", "description"} < set(rule["annotations"])
        assert all(part in sections[name.lower()] for part in SECTIONS), name
