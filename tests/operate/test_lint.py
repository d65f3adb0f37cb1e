"""What is shipped for containers is as their linters want it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.image import DOCKERFILE


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
