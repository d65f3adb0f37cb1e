"""Kestra's official Python client: fetched once per version, and run in a process of its own.

Two versions cannot live in one environment, and none in ours: each has a folder under ``.cache``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.fake_kestra import Style

CACHE = Path(__file__).resolve().parents[2] / ".cache"
COMMANDS = Path(__file__).with_name("kestrapy_commands.py")

PACKAGES: dict[Style, tuple[str, ...]] = {
    "v1": ("kestrapy>=1.3,<1.4", "regex"),
    "v2": ("kestrapy>=2.0,<2.1", "regex"),
}
"""kestrapy imports regex, but does not require it."""

FETCHED_WITHIN_S = 120.0


def folder_of_kestrapy(style: Style) -> Path:
    """Where that version is; fetched now if it is not there. Skips the test where it cannot be fetched."""
    folder = CACHE / f"kestrapy-{style}-python{sys.version_info.major}.{sys.version_info.minor}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        fetched = Path(tempfile.mkdtemp(prefix="kestrapy-", dir=CACHE))
        try:
            _fetch(PACKAGES[style], fetched)
            fetched.rename(folder)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
    return folder


def _fetch(packages: tuple[str, ...], folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--disable-pip-version-check"]
    try:
        subprocess.run(
            [*pip, "--target", str(folder), *packages],
            check=True, capture_output=True, text=True, timeout=FETCHED_WITHIN_S,
        )  # fmt: skip
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"KESTRAPY CANNOT BE FETCHED, our client was not compared with it: {exc.stderr.strip()[-300:]}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"KESTRAPY CANNOT BE FETCHED within {FETCHED_WITHIN_S} s, our client was not compared with it")


class Kestrapy:
    """``with Kestrapy("v2", url, username, password) as official: official.do("executions", "execution", ...)``."""

    def __init__(self, style: Style, url: str, username: str, password: str) -> None:
        self._command = [sys.executable, "-I", str(COMMANDS), str(folder_of_kestrapy(style)), url, username, password]

    def __enter__(self) -> Self:
        environment = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def do(self, api: str, method: str, *arguments: object, **options: object) -> dict[str, Any]:
        """Calls a method; returns ``{"result": ...}``, or ``{"error": <class>, "status": <HTTP status>}``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"api": api, "method": method, "arguments": arguments, "options": options}
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
