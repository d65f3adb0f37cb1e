"""A real Prometheus that scrapes replicas and evaluates the rules that we ship, in a hundredth of their time."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from tests.support.eventually import PATIENCE_S, eventually, eventually_sync
from tests.support.ports import free_port
from tests.support.replica import ROOT, Replica

RULES: Final = ROOT / "deploy" / "prometheus" / "rules" / "vapi-cache.yml"

TIMES_FASTER: Final = 100
"""A window of five minutes is then one of three seconds, with six scrapes in it."""

SILENCE_TIMES_FASTER: Final = 1000
"""For the one threshold that is a time: an hour of silence."""

EVERY: Final = "500ms"

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600}
_DURATION: Final = re.compile(r"(\[|\bfor: )(\d+)([smh])\b")
_SILENCE: Final = re.compile(r"(?<=vapi_longest_silence_seconds\) > )(\d+)")


def quickened(rules: str) -> str:
    """The rules with every duration shortened."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * _UNITS_S[found[3]] * 1000 // TIMES_FASTER}ms"

    rules, changed = _SILENCE.subn(lambda found: str(int(found[1]) / SILENCE_TIMES_FASTER), rules)
    assert changed == 1, "the threshold that is a time reads otherwise"
    return _DURATION.sub(shorter, rules)


class PrometheusServer:
    """One Prometheus, for the replicas given. ``token`` is what it reads their metrics with."""

    def __init__(self, folder: Path, replicas: list[Replica], *, token: str | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._replicas = replicas
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "rules.yml").write_text(quickened(RULES.read_text()))
        targets = [f"127.0.0.1:{replica.port}" for replica in replicas]
        job: dict[str, Any] = {"job_name": "vapi-cache", "static_configs": [{"targets": targets}]}
        if token is not None:
            job["authorization"] = {"credentials": token}
        configuration = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [job],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML

    def start(self) -> Self:
        """Return when it has scraped every replica twice: an increase needs a value before it."""
        command = [
            "prometheus", f"--config.file={self._folder / 'prometheus.yml'}", f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually_sync(self._has_scraped_all)
        return self

    def _has_scraped_all(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus did not start: {(self._folder / 'log').read_text()}")
        try:
            scraped = self.values('min_over_time(up{job="vapi-cache"}[1h]) + count_over_time(up[1h])')
        except OSError:
            return False
        return len(scraped) == len(self._replicas) and min(scraped) >= 1 + 2

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        return list(self._ask("query", query=expression)["result"])

    def values(self, expression: str) -> list[float]:
        return [float(series["value"][1]) for series in self.query(expression)]

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def fires(self, *names: str) -> None:
        """Return when each of these has fired, at the same time or not."""
        missing = set(names)

        def have_fired() -> bool:
            missing.difference_update(self.firing())
            return not missing

        try:
            await eventually(have_fired)
        except TimeoutError:
            raise AssertionError(f"these did not fire: {sorted(missing)}; these do: {sorted(self.firing())}") from None

    async def is_quiet(self, *names: str) -> None:
        """Return when none of these fires any more."""
        await eventually(lambda: not self.firing() & set(names))

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as exc:
            if exc.code == 503:  # it is not ready yet
                raise
            raise AssertionError(f"{parameters}: {exc.read().decode()}") from exc


Watch = Callable[..., PrometheusServer]
"""Starts a Prometheus for the replicas given."""
