"""Runs ``python -m service doctor`` as an operator does, and finds what it says about one thing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from service.cli.doctor.findings import Finding, Level
from service.cli.main import main
from tests.support.eventually import eventually_sync

NOBODY_THERE = "http://127.0.0.1:9"
"""The port of ``discard``, where nothing listens; for tests that are not about the service itself."""


OF_A_BUSY_MACHINE: Final = ("latency: warning", "latency: error", "writable: warning")
"""PINGs and an fsync that took long."""


class Diagnosis(NamedTuple):
    status: int
    findings: list[tuple[str, Finding]]
    """Each with the part that it is about."""
    printed: str
    """All of standard output and error."""

    def of(self, part: str, check: str | None = None) -> list[Finding]:
        return [each for its_part, each in self.findings if its_part == part and check in (None, each.check)]

    def one(self, part: str, check: str) -> Finding:
        found = self.of(part, check)
        assert len(found) == 1, self.printed
        return found[0]

    def level(self, part: str, check: str) -> Level:
        return self.one(part, check).level

    def troubles(self, part: str) -> list[str]:
        """What is no "ok", as "check: level", but for what a busy machine adds."""
        found = [f"{each.check}: {each.level}" for each in self.of(part) if each.level != "ok"]
        return [each for each in found if each not in OF_A_BUSY_MACHINE]


def diagnose(*arguments: str, **settings: Any) -> Diagnosis:
    """In this process, and in a thread of its own, since a test may have a loop already."""
    environment = {name.upper(): str(value) for name, value in settings.items()}
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        ThreadPoolExecutor(1) as pool,
    ):
        status = pool.submit(main, ["doctor", "--json", *arguments]).result()
    return diagnosis_of(status, out.getvalue(), err.getvalue())


def diagnose_until(holds: Callable[[Diagnosis], bool], diagnose_once: Callable[[], Diagnosis]) -> Diagnosis:
    """The first diagnosis of which that holds: on a busy machine also what is well may be late once."""
    found: list[Diagnosis] = []

    def is_found() -> bool:
        found.append(diagnose_once())
        return holds(found[-1])

    eventually_sync(is_found)
    return found[-1]


def diagnosis_of(status: int, out: str, err: str) -> Diagnosis:
    printed = out + err
    assert err == "", printed
    told = json.loads(out)
    findings = [
        (each["part"], Finding(each["level"], each["check"], each["found"], each["advice"]))
        for each in told["findings"]
    ]
    assert all((each.level == "ok") == (each.advice is None) for _, each in findings), printed
    return Diagnosis(status, findings, printed)


async def diagnose_meanwhile(*arguments: str, **settings: Any) -> Diagnosis:
    """For tests whose own loop serves what the doctor asks."""
    return await asyncio.to_thread(diagnose, *arguments, **settings)
