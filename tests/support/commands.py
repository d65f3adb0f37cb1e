"""Runs the command line as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.support.eventually import PATIENCE_S
from tests.support.replica import ROOT

RUN_S = PATIENCE_S


def run(
    *arguments: str, stdin: bytes | None = None, timeout_s: float = RUN_S, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """``python -m service <arguments>`` with these environment variables, and what it printed."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")}
    environment |= {name.upper(): str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        check=False, cwd=ROOT, env=environment, input=stdin, capture_output=True, timeout=timeout_s,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
