"""Runs the command line as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

from tests.support.eventually import PATIENCE_S
from tests.support.replica import ROOT
from tests.support.warm_service import WarmProcess

RUN_S = PATIENCE_S


def run(
    *arguments: str, stdin: bytes | None = None, timeout_s: float = RUN_S, from_nothing: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """``python -m service <arguments>`` with these environment variables, and what it printed.

    ``from_nothing``: as of a Replica; each command is run so once, as it imports things that others do not.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")}
    environment |= {name.upper(): str(value) for name, value in settings.items()}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin or b"")
        given.seek(0)
        process: subprocess.Popen[bytes] | WarmProcess
        if from_nothing or settings.get("workers", 1) != 1:
            command = [sys.executable, "-m", "service", *arguments]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=given, stdout=out, stderr=err)
        else:
            files = {"stdin": given.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
            process = WarmProcess(list(arguments), environment, **files)
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
        for printed in (out, err):
            printed.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read().decode(), err.read().decode())
